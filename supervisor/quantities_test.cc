// SPDX-License-Identifier: Apache-2.0
#include "supervisor/quantities.h"

#include <gtest/gtest.h>

namespace msb::supervisor {
namespace {

TEST(Size, ReadsEveryUnit) {
  const std::pair<const char*, std::uint64_t> cases[] = {
      {"512", 512}, {"512M", 512},   {"512m", 512},    {"512MB", 512}, {"512MiB", 512},
      {"1G", 1024}, {"1.5G", 1536},  {"2T", 2097152},  {"4096K", 4},   {"1k", 1},
      {"1b", 1},    {"1048577B", 2}, {"64GiB", 65536}, {"0.5G", 512},  {"1024T", std::uint64_t{1} << 30}};
  for (const auto& [text, mib] : cases) {
    const auto size = parse_size_mib(text);
    ASSERT_TRUE(size.ok()) << text;
    EXPECT_EQ(*size, mib) << text;
  }
}

TEST(Size, RefusesTheRest) {
  for (const char* text : {"", "M", "-1", "+1", "1X", "1MM", "1 G", "0", "0M", "1.G", ".5G", "1025T", "1Gi B",
                           "99999999999999999999", "1e3", "0x10", "1.0000000001G"}) {
    EXPECT_FALSE(parse_size_mib(text).ok()) << text;
  }
}

TEST(Size, FormatReadsBack) {
  for (const std::uint64_t mib : {1ULL, 512ULL, 1024ULL, 1536ULL, 65536ULL, 1048576ULL}) {
    EXPECT_EQ(*parse_size_mib(format_size_mib(mib)), mib);
  }
  EXPECT_EQ(format_size_mib(2048), "2G");
  EXPECT_EQ(format_size_mib(1536), "1536M");
}

TEST(Size, InBytes) {
  EXPECT_EQ(*parse_size_bytes("512"), 512U);
  EXPECT_EQ(*parse_size_bytes("1.5K"), 1536U);
  EXPECT_EQ(*parse_size_bytes("1024T"), std::uint64_t{1} << 50);
  for (const char* text : {"", "0", "1025T", "1X", "999999999999999T"})
    EXPECT_FALSE(parse_size_bytes(text).ok()) << text;
}

TEST(Rate, IsPerSecond) {
  EXPECT_EQ(*parse_rate("10M"), 10U << 20);
  EXPECT_EQ(*parse_rate("10M/s"), 10U << 20);
  EXPECT_EQ(*parse_rate("600/1m"), 10U);
  EXPECT_EQ(*parse_rate("600/m"), 10U);
  EXPECT_EQ(*parse_rate("1/1h"), 1U);
  for (const char* text : {"", "/s", "10/", "10/0s", "0/s", "10/x"})
    EXPECT_FALSE(parse_rate(text).ok()) << text;
}

TEST(DurationGrammar, ReadsEveryForm) {
  const std::pair<const char*, std::int64_t> cases[] = {
      {"90", 90'000},      {"90s", 90'000},     {"250ms", 250},   {"1h30m", 5'400'000},
      {"2d", 172'800'000}, {"1.5h", 5'400'000}, {"0", 0},         {"0s", 0},
      {"1m30.5s", 90'500}, {"1w", 604'800'000}, {"1s250ms", 1250}};
  for (const auto& [text, ms] : cases) {
    const auto duration = parse_duration_ms(text);
    ASSERT_TRUE(duration.ok()) << text;
    EXPECT_EQ(*duration, ms) << text;
  }
}

TEST(DurationGrammar, RefusesTheRest) {
  for (const char* text : {"", "s", "-1s", "1x", "30m1h", "1h1h", "1h30", "1.5h30m", "11000w", "1 s"}) {
    EXPECT_FALSE(parse_duration_ms(text).ok()) << text;
  }
}

TEST(DurationGrammar, FormatReadsBack) {
  for (const std::int64_t ms : {1LL, 250LL, 1000LL, 61'001LL, 86'400'000LL, 5'400'000LL}) {
    EXPECT_EQ(*parse_duration_ms(format_duration_ms(ms)), ms);
  }
}

TEST(Moment, ReadsRfc3339AndAgo) {
  EXPECT_EQ(*parse_moment_ns("1970-01-01T00:00:01Z", 0), 1'000'000'000);
  EXPECT_EQ(*parse_moment_ns("2026-05-01T12:00:00+02:00", 0), *parse_moment_ns("2026-05-01T10:00:00Z", 0));
  EXPECT_EQ(*parse_moment_ns("2024-02-29T00:00:00.25Z", 0) % 1'000'000'000, 250'000'000);
  EXPECT_EQ(*parse_moment_ns("10m", 601'000'000'000), 1'000'000'000);
  for (const char* text :
       {"yesterday", "2026-02-29T00:00:00Z", "2026-13-01T00:00:00Z", "2026-01-01T24:00:00Z",
        "2026-01-01T00:00:00", "2026-01-01", "2026-01-01T00:00:00Zx"}) {
    EXPECT_FALSE(parse_moment_ns(text, 0).ok()) << text;
  }
}

TEST(Moment, FormatReadsBack) {
  EXPECT_EQ(format_rfc3339(1'777'629'600'123'000'000), "2026-05-01T10:00:00.123Z");
  EXPECT_EQ(format_rfc3339(0, 0), "1970-01-01T00:00:00Z");
  const std::int64_t ns = 1'777'629'600'123'456'789;
  EXPECT_EQ(*parse_moment_ns(format_rfc3339(ns, 9), 0), ns);
}

}  // namespace
}  // namespace msb::supervisor
