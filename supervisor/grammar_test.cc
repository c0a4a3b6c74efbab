// SPDX-License-Identifier: Apache-2.0
#include "supervisor/grammar.h"

#include <gtest/gtest.h>

#include <csignal>

namespace msb::supervisor {
namespace {

const char* fake_getenv(const char* name) { return std::string_view(name) == "SET" ? "value" : nullptr; }

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

TEST(Env, TakesFromTheHostOnlyWhenAsked) {
  EXPECT_EQ(*parse_env("A=b=c", fake_getenv), "A=b=c");
  EXPECT_EQ(*parse_env("A=", fake_getenv), "A=");
  EXPECT_EQ(*parse_env("SET", fake_getenv), "SET=value");
  EXPECT_FALSE(parse_env("UNSET", fake_getenv).ok());
  EXPECT_FALSE(parse_env("=x", fake_getenv).ok());
  EXPECT_FALSE(parse_env("", fake_getenv).ok());
}

TEST(Env, FileSkipsCommentsAndNamesTheLine) {
  const auto list = parse_env_file("# note\n\nA=1\r\n  B=two words \nSET", fake_getenv);
  ASSERT_TRUE(list.ok());
  EXPECT_EQ(*list, (std::vector<std::string>{"A=1", "B=two words ", "SET=value"}));
  const auto bad = parse_env_file("A=1\nUNSET\n", fake_getenv);
  ASSERT_FALSE(bad.ok());
  EXPECT_NE(bad.error().text.find("line 2"), std::string::npos);
}

TEST(LabelGrammar, SplitsAndReserves) {
  EXPECT_EQ(*parse_label("a=b"), (Label{"a", "b"}));
  EXPECT_EQ(*parse_label("a"), (Label{"a", ""}));
  EXPECT_EQ(*parse_label("a=b=c"), (Label{"a", "b=c"}));
  for (const char* text : {"", "=b", "msb.x=1", "sandbox.y", "a=\n"})
    EXPECT_FALSE(parse_label(text).ok()) << text;
}

TEST(RlimitGrammar, ReadsLimits) {
  EXPECT_EQ(*parse_rlimit("nofile=1024"), (Rlimit{"nofile", 1024, 1024}));
  EXPECT_EQ(*parse_rlimit("NOFILE=1:2"), (Rlimit{"nofile", 1, 2}));
  EXPECT_EQ(*parse_rlimit("memlock=unlimited"), (Rlimit{"memlock", kRlimitUnlimited, kRlimitUnlimited}));
  EXPECT_EQ(*parse_rlimit("as=2G"), (Rlimit{"as", 2147483648, 2147483648}));
  EXPECT_EQ(*parse_rlimit("core=0"), (Rlimit{"core", 0, 0}));
  for (const char* text : {"", "nofile", "nofile=", "bogus=1", "nofile=2:1", "nofile=1:2:3", "nofile=x"}) {
    EXPECT_FALSE(parse_rlimit(text).ok()) << text;
  }
}

TEST(PortGrammar, ReadsEveryForm) {
  EXPECT_EQ(*parse_port("8080:80"), (PortMapping{"127.0.0.1", 8080, 80, false}));
  EXPECT_EQ(*parse_port("80"), (PortMapping{"127.0.0.1", 0, 80, false}));
  EXPECT_EQ(*parse_port("0.0.0.0:53:53/udp"), (PortMapping{"0.0.0.0", 53, 53, true}));
  EXPECT_EQ(*parse_port("[::1]:8080:80/tcp"), (PortMapping{"::1", 8080, 80, false}));
  for (const char* text :
       {"", ":", "0", "1:0", "65536:1", "1:65536", "x:1:1", "1:1/sctp", "::1:80:80:", "1-2:1-2"}) {
    EXPECT_FALSE(parse_port(text).ok()) << text;
  }
  for (const char* text : {"8080:80", "[::1]:1:2/udp", "10.0.0.1:0:7"}) {
    EXPECT_EQ(*parse_port(format_port(*parse_port(text))), *parse_port(text));
  }
}

TEST(MountGrammar, ReadsTmpfsAndVolumes) {
  const auto tmpfs = parse_tmpfs("/scratch:64M,noexec,ro");
  ASSERT_TRUE(tmpfs.ok());
  EXPECT_EQ(tmpfs->size_mib, 64U);
  EXPECT_TRUE(tmpfs->noexec && tmpfs->readonly && !tmpfs->nodev);
  EXPECT_EQ(parse_tmpfs("/t:noexec")->size_mib, 0U);
  EXPECT_EQ(parse_tmpfs("/t:size=2G")->size_mib, 2048U);
  EXPECT_FALSE(parse_tmpfs("t").ok());
  EXPECT_FALSE(parse_tmpfs("/t:64M,bogus").ok());
  const auto bind = parse_volume("./src:/src:ro");
  ASSERT_TRUE(bind.ok());
  EXPECT_EQ(bind->kind, Mount::Kind::kBind);
  EXPECT_TRUE(bind->readonly);
  EXPECT_EQ(parse_volume("data:/data")->kind, Mount::Kind::kVolume);
  for (const char* text : {"", "a", ":/x", "a:b", "a:/x:bogus", "/a:/../b", "a:/x:ro,rw"}) {
    EXPECT_FALSE(parse_volume(text).ok()) << text;
  }
}

TEST(Names, Checked) {
  for (const char* name : {"a", "A-b_c.9", "0x"}) EXPECT_TRUE(check_name(name).ok()) << name;
  for (const char* name : {"", ".a", "-a", "a/b", "a b", "\xc3\xa9", "..", "a\n"})
    EXPECT_FALSE(check_name(name).ok()) << name;
  EXPECT_FALSE(check_name(std::string(129, 'a')).ok());
  EXPECT_TRUE(check_user("1000:1000").ok());
  for (const char* user : {"", ":", "a:", ":b", "a b", "a:b:c"}) EXPECT_FALSE(check_user(user).ok()) << user;
  for (const char* path : {"", "a", "/a/../b", "/.."}) EXPECT_FALSE(check_guest_path(path).ok()) << path;
  EXPECT_TRUE(check_guest_path("/a/..b").ok());
}

TEST(Signals, NamesAndNumbers) {
  EXPECT_EQ(*parse_signal("SIGTERM"), SIGTERM);
  EXPECT_EQ(*parse_signal("term"), SIGTERM);
  EXPECT_EQ(*parse_signal("9"), 9);
  EXPECT_EQ(*parse_signal("SIGRTMIN+3"), 37);
  EXPECT_EQ(*parse_signal("RTMAX-1"), 63);
  for (const char* text : {"", "0", "65", "SIGBOGUS", "-1", "RTMIN+99"})
    EXPECT_FALSE(parse_signal(text).ok()) << text;
  for (int number = 1; number <= 64; ++number) {
    if (number == 32 || number == 33) continue;
    EXPECT_EQ(*parse_signal(signal_name(number)), number);
  }
}

TEST(DetachKeys, ReadsControlAndPlain) {
  EXPECT_EQ(*parse_detach_keys("ctrl-p,ctrl-q"), "\x10\x11");
  EXPECT_EQ(*parse_detach_keys("ctrl-]"), "\x1d");
  EXPECT_EQ(*parse_detach_keys("ctrl-\\"), "\x1c");
  EXPECT_EQ(*parse_detach_keys("a,b"), "ab");
  EXPECT_EQ(*parse_detach_keys(""), "");
  EXPECT_EQ(*parse_detach_keys(","), ",");
  for (const char* text : {"ctrl-", "ctrl-1", "esc", "ctrl-ab"})
    EXPECT_FALSE(parse_detach_keys(text).ok()) << text;
}

TEST(ScriptGrammar, Escapes) {
  EXPECT_EQ(parse_script("hi=#!/bin/sh\\necho \\q", true)->body, "#!/bin/sh\necho \\q");
  EXPECT_EQ(parse_script("hi=a\\n", false)->body, "a\\n");
  EXPECT_FALSE(parse_script("nope", true).ok());
  EXPECT_FALSE(parse_script("a/b=x", true).ok());
}

TEST(RootDiskGrammar, ReadsBothKinds) {
  EXPECT_EQ(parse_root_disk("10G")->size_mib, 10240U);
  EXPECT_EQ(parse_root_disk("tmpfs")->kind, RootDisk::Kind::kTmpfs);
  EXPECT_EQ(parse_root_disk("tmpfs:1G")->size_mib, 1024U);
  EXPECT_FALSE(parse_root_disk("tmpfsx").ok());
}

TEST(HostSocketGrammar, PathAndPort) {
  EXPECT_EQ(parse_host_socket("/run/agent.sock:5000").value(), (HostSocket{"/run/agent.sock", 5000}));
  EXPECT_EQ(parse_host_socket("relative:2/stream").value(), (HostSocket{"relative", 2}));
  EXPECT_EQ(parse_host_socket("/run/a:b:4294967294").value(), (HostSocket{"/run/a:b", 4294967294U}));
  EXPECT_EQ(format_host_socket({"/run/a:b", 7}), "/run/a:b:7");
  for (const char* bad : {"", "/run/agent.sock", ":5000", "/run/:5000", "/run/a:", "/run/a:0", "/run/a:1",
                          "/run/a:x", "/run/a:-1", "/run/a:4294967295", "/run/a:99999999999999999999",
                          "/run/a:5000/dgram", "/run/a:5000/tcp"}) {
    EXPECT_FALSE(parse_host_socket(bad)) << bad;
  }
}

}  // namespace
}  // namespace msb::supervisor
