// SPDX-License-Identifier: Apache-2.0
#include "oci/tar_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "oci/tar_extensions.h"
#include "oci/tar_numbers.h"
#include "oci/testing/tar_builder.h"

namespace msb::oci {
namespace {

using ::testing::HasSubstr;
using testing::Member;
using testing::TarBuilder;

struct Read {
  std::vector<TarEntry> entries;
  std::vector<std::string> contents;
  Status status;
};

Read read_tar(const std::string& stream, std::size_t piece = SIZE_MAX, const Limits& limits = {}) {
  Read out;
  MemorySource source(as_bytes(stream), piece);
  TarReader reader(source, limits);
  for (;;) {
    auto entry = reader.next();
    if (!entry) {
      out.status = std::move(entry).error();
      return out;
    }
    if (!*entry) break;
    out.entries.push_back(**entry);
    std::string content;
    for (;;) {
      auto data = reader.read_data();
      if (!data) {
        out.status = std::move(data).error();
        return out;
      }
      if (data->empty()) break;
      content += as_text(*data);
    }
    out.contents.push_back(content);
  }
  out.status = reader.drain();
  return out;
}

std::string refusal(const std::string& stream) {
  const Read read = read_tar(stream);
  return read.status.ok() ? "accepted" : read.status.error().text;
}

TEST(TarNumbers, OctalBase256AndWhatIsNeither) {
  const auto parse = [](std::string_view text) { return parse_tar_number(as_bytes(text)); };
  EXPECT_EQ(parse("0000644\0"), 0644);
  EXPECT_EQ(parse("   644 \0"), 0644);
  EXPECT_EQ(parse("        "), 0);
  EXPECT_EQ(parse(std::string_view("\0\0\0\0", 4)), 0);
  EXPECT_EQ(parse("0000648"), std::nullopt);
  EXPECT_EQ(parse("64 4"), std::nullopt);
  EXPECT_EQ(parse("-1"), std::nullopt);
  EXPECT_EQ(parse(std::string_view("\x80\0\0\0\0\0\1\0", 8)), 256);
  EXPECT_EQ(parse("\xff\xff\xff\xff\xff\xff\xff\xff"), -1);
  EXPECT_EQ(parse(std::string_view("\x80\0\0\0\x80\0\0\0\0\0\0\0", 12)), std::nullopt);  // 2^63
  EXPECT_EQ(parse("\xff\xff\xff\xff\x7f\xff\xff\xff\xff\xff\xff\xff"), std::nullopt);
  EXPECT_EQ(parse("7777777777777777777777777"), std::nullopt);
}

TEST(TarNumbers, PaxTimes) {
  const auto at = [](std::string_view text) {
    const auto time = parse_pax_time(text);
    return time ? std::to_string(time->seconds) + "+" + std::to_string(time->nanoseconds) : "refused";
  };
  EXPECT_EQ(at("1350244992.023960108"), "1350244992+23960108");
  EXPECT_EQ(at("-0.25"), "-1+750000000");
  EXPECT_EQ(at("-1"), "-1+0");
  EXPECT_EQ(at("1.0000000019"), "1+1");
  EXPECT_EQ(at("5."), "5+0");
  EXPECT_EQ(at(""), "refused");
  EXPECT_EQ(at("--1"), "refused");
  EXPECT_EQ(at("1e3"), "refused");
  EXPECT_EQ(at("99999999999999999999"), "refused");
}

TEST(TarReader, GivesTheSameHoweverTheStreamIsCut) {
  const std::string stream = TarBuilder()
                                 .add({.name = "a", .data = std::string(1500, 'x')})
                                 .add({.name = "d/", .type = '5', .mode = 01777})
                                 .add({.name = "s", .type = '2', .link = "a"})
                                 .end();
  for (const std::size_t piece : {std::size_t{1}, std::size_t{7}, std::size_t{512}, std::size_t{5000}}) {
    const Read read = read_tar(stream, piece);
    ASSERT_TRUE(read.status.ok()) << read.status.error().text;
    ASSERT_EQ(read.entries.size(), 3U);
    EXPECT_EQ(read.contents[0], std::string(1500, 'x'));
    EXPECT_EQ(read.entries[1].mode, 01777U);
    EXPECT_EQ(read.entries[2].link, "a");
  }
}

TEST(TarReader, LargeOwnersAndOldTimesInTheHeaderAndInPax) {
  const Read read =
      read_tar(TarBuilder()
                   .add({.name = "a", .uid = 4'000'000'000, .gid = 70'000, .mtime = -5})
                   .add({.name = "b", .pax = {{"uid", "3999999999"}, {"gid", "65536"}, {"mtime", "-1.5"}}})
                   .end());
  ASSERT_TRUE(read.status.ok()) << read.status.error().text;
  EXPECT_EQ(read.entries[0].uid, 4'000'000'000U);
  EXPECT_EQ(read.entries[0].gid, 70'000U);
  EXPECT_EQ(read.entries[0].mtime_s, -5);
  EXPECT_EQ(read.entries[1].uid, 3'999'999'999U);
  EXPECT_EQ(read.entries[1].mtime_s, -2);
  EXPECT_EQ(read.entries[1].mtime_ns, 500'000'000U);
}

TEST(TarReader, LongNamesGnuAndPax) {
  const std::string name(240, 'n');
  const std::string bytes = "\xff\xfe-not-utf-8";
  const Read read = read_tar(TarBuilder()
                                 .gnu_long('L', "dir/" + name)
                                 .gnu_long('K', "target/" + name)
                                 .add({.name = "short", .type = '2', .link = "cut"})
                                 .add({.name = "cut", .pax = {{"path", bytes}}})
                                 .end());
  ASSERT_TRUE(read.status.ok()) << read.status.error().text;
  EXPECT_EQ(read.entries[0].path, "dir/" + name);
  EXPECT_EQ(read.entries[0].link, "target/" + name);
  EXPECT_EQ(read.entries[1].path, bytes);
}

TEST(TarReader, AttributesKeepTheirBytesAndLaterRecordsWin) {
  const std::string capability("\1\0\0\2\0\4\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 20);
  const Read read = read_tar(TarBuilder()
                                 .add({.name = "ping",
                                       .pax = {{"SCHILY.xattr.user.a", "old"},
                                               {"SCHILY.xattr.security.capability", capability},
                                               {"SCHILY.xattr.user.a", "new"}}})
                                 .end());
  ASSERT_TRUE(read.status.ok()) << read.status.error().text;
  EXPECT_THAT(read.entries[0].xattrs, ::testing::UnorderedElementsAre(
                                          Xattr{"security.capability", capability}, Xattr{"user.a", "new"}));
}

TEST(TarReader, SparseFilesOfFormats00And01And10) {
  const std::string map = "2\n1\n3\n8\n2\n";  // two ranges: 3 bytes at 1, 2 bytes at 8
  const std::string data10 = map + std::string(512 - map.size(), '\0') + "abcde";
  const Read read = read_tar(
      TarBuilder()
          .add({.name = "v00",
                .data = "abcde",
                .pax = {{"GNU.sparse.size", "10"},
                        {"GNU.sparse.numblocks", "2"},
                        {"GNU.sparse.offset", "1"},
                        {"GNU.sparse.numbytes", "3"},
                        {"GNU.sparse.offset", "8"},
                        {"GNU.sparse.numbytes", "2"}}})
          .add({.name = "v01",
                .data = "abcde",
                .pax = {{"GNU.sparse.size", "10"},
                        {"GNU.sparse.map", "1,3,8,2"},
                        {"GNU.sparse.name", "real"}}})
          .add({.name = "v10",
                .data = data10,
                .pax = {{"GNU.sparse.major", "1"}, {"GNU.sparse.minor", "0"}, {"GNU.sparse.realsize", "10"}}})
          .end());
  ASSERT_TRUE(read.status.ok()) << read.status.error().text;
  EXPECT_EQ(read.entries[1].path, "real");
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_TRUE(read.entries[i].sparse);
    EXPECT_EQ(read.entries[i].size, 10U);
    ASSERT_EQ(read.entries[i].ranges.size(), 2U);
    EXPECT_EQ(read.entries[i].ranges[1].offset, 8U);
    EXPECT_EQ(read.contents[i], "abcde");
  }
}

TEST(TarReader, RefusesSparseMapsThatLie) {
  const auto sparse = [](const char* map, const char* size) {
    return refusal(
        TarBuilder()
            .add({.name = "f", .data = "abcde", .pax = {{"GNU.sparse.size", size}, {"GNU.sparse.map", map}}})
            .end());
  };
  EXPECT_EQ(sparse("0,5", "5"), "accepted");
  EXPECT_THAT(sparse("0,3,2,2", "10"), HasSubstr("overlap"));
  EXPECT_THAT(sparse("5,3,0,2", "10"), HasSubstr("overlap"));
  EXPECT_THAT(sparse("0,5", "4"), HasSubstr("past the file's end"));
  EXPECT_THAT(sparse("18446744073709551615,5", "10"), HasSubstr("past the file's end"));
  EXPECT_THAT(sparse("0,4", "10"), HasSubstr("account for"));
  EXPECT_THAT(sparse("0", "10"), HasSubstr("not a number"));
}

TEST(TarReader, RefusesWhatIsDamagedOrAmbiguous) {
  const std::string good = TarBuilder().add({.name = "a", .data = "hello"}).end();
  EXPECT_EQ(refusal(good), "accepted");
  EXPECT_THAT(refusal(good.substr(0, 100)), HasSubstr("ends inside a header"));
  EXPECT_THAT(refusal(good.substr(0, 514)), HasSubstr("ends inside a file"));
  std::string damaged = good;
  damaged[0] = 'b';
  EXPECT_THAT(refusal(damaged), HasSubstr("checksum"));
  EXPECT_THAT(refusal(TarBuilder().add({.name = "a", .type = 'Z'}).end()), HasSubstr("do not agree"));
  EXPECT_THAT(refusal(TarBuilder().add({.name = "a", .uid = 0xffffffff}).end()), HasSubstr("owner"));
  EXPECT_THAT(refusal(TarBuilder().add({.name = "a", .type = '3', .major = 4096}).end()),
              HasSubstr("device"));
  EXPECT_THAT(refusal(TarBuilder().add({.name = "a", .pax = {{"size", "9"}}}).open_end()),
              HasSubstr("ends inside a file"));
  EXPECT_THAT(refusal(TarBuilder().add({.name = "a", .pax = {{"path", std::string("x\0y", 3)}}}).end()),
              HasSubstr("zero byte"));
  EXPECT_THAT(refusal(TarBuilder()
                          .add({.name = "g", .type = 'g', .data = testing::pax_record("path", "x")})
                          .add({.name = "a"})
                          .end()),
              HasSubstr("global"));
  EXPECT_EQ(refusal(TarBuilder()
                        .add({.name = "g", .type = 'g', .data = testing::pax_record("comment", "x")})
                        .add({.name = "a"})
                        .end()),
            "accepted");
  EXPECT_THAT(
      refusal(TarBuilder().add({.name = "x", .type = 'x', .data = "999 a=b\n"}).add({.name = "a"}).end()),
      HasSubstr("wrong length"));
  EXPECT_THAT(refusal(TarBuilder().add({.name = "x", .type = 'x', .data = "5 a\n"}).end()), HasSubstr("PAX"));
  EXPECT_THAT(refusal(TarBuilder().gnu_long('L', "name").end()), HasSubstr("without the entry"));
}

TEST(TarReader, BoundsHeadersFilesAndTheStream) {
  TarBuilder many;
  for (int i = 0; i < 40; ++i) many.gnu_long('L', "name");
  EXPECT_THAT(refusal(many.add({.name = "a"}).end()), HasSubstr("too many extension headers"));
  EXPECT_THAT(refusal(TarBuilder().add({.name = "x", .type = 'x', .size = 1LL << 40}).end()),
              HasSubstr("extension header of"));
  Limits limits;
  limits.max_file_bytes = 4;
  EXPECT_EQ(
      read_tar(TarBuilder().add({.name = "a", .data = "hello"}).end(), SIZE_MAX, limits).status.error().code,
      Errc::kLimit);
  limits = {};
  limits.max_layer_bytes = 1024;
  EXPECT_EQ(read_tar(std::string(4096, '\0'), 512, limits).status.error().code, Errc::kLimit);
}

}  // namespace
}  // namespace msb::oci
