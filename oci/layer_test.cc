// SPDX-License-Identifier: Apache-2.0
// Layers from tar to EROFS and laid over one another: what must survive, what must be refused, and that the
// record kept for `save` gives the very tar back.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "oci/digest.h"
#include "oci/testing/layers.h"
#include "oci/testing/tar_builder.h"

namespace msb::oci {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::list_all;
using testing::Member;
using testing::TarBuilder;
using testing::unpack;

std::string refusal(const TarBuilder& tar, const Limits& limits = {}) {
  const auto layer = unpack(as_bytes(tar.end()), limits);
  return layer ? "accepted" : layer.error().text;
}

TEST(Layer, KeepsModesOwnersTimesLinksAndDevices) {
  const std::string tar =
      TarBuilder()
          .add({.name = "./", .type = '5', .mode = 0711, .uid = 7})
          .add({.name = "bin/su", .data = "x", .mode = 06755, .uid = 70'000, .gid = 4'000'000'000})
          .add({.name = "bin/su2", .type = '1', .link = "bin/su"})
          .add({.name = "old", .data = "o", .pax = {{"mtime", "-1.25"}}})
          .add({.name = "null", .type = '3', .major = 1, .minor = 3})
          .add({.name = "disk", .type = '4', .major = 4095, .minor = 1048575})
          .add({.name = "pipe", .type = '6', .mode = 0600})
          .add({.name = "link", .type = '2', .pax = {{"linkpath", std::string(4095, 'l')}}})
          .end();
  const auto layer = unpack(as_bytes(tar));
  ASSERT_TRUE(layer.ok()) << layer.error().text;
  auto files = list_all(layer->blob);
  ASSERT_TRUE(files.ok()) << files.error().text;
  auto& at = *files;
  EXPECT_EQ(at[""].info.mode, S_IFDIR | 0711);
  EXPECT_EQ(at[""].info.uid, 7U);
  EXPECT_EQ(at["bin/su"].info.mode, S_IFREG | 06755);
  EXPECT_EQ(at["bin/su"].info.gid, 4'000'000'000U);
  EXPECT_EQ(at["bin/su"].info.nid, at["bin/su2"].info.nid);
  EXPECT_EQ(at["bin/su"].info.nlink, 2U);
  EXPECT_EQ(at["old"].info.mtime_s, -2);
  EXPECT_EQ(at["old"].info.mtime_ns, 750'000'000U);
  EXPECT_EQ(at["null"].info.data, 0x103U);
  EXPECT_EQ(at["disk"].info.data, 0xffff'ffffU);  // every bit of both numbers
  EXPECT_TRUE(S_ISFIFO(at["pipe"].info.mode));
  EXPECT_TRUE(at["link"].content == std::string(4095, 'l'));
  EXPECT_EQ(at[""].info.nlink, 3U);
}

TEST(Layer, SparseFilesKeepTheirHolesAndContent) {
  const std::string tar =
      TarBuilder()
          .add({.name = "sparse",
                .data = "abcde",
                .pax = {{"GNU.sparse.size", "1000000"}, {"GNU.sparse.map", "4094,3,999998,2"}}})
          .end();
  const auto layer = unpack(as_bytes(tar));
  ASSERT_TRUE(layer.ok()) << layer.error().text;
  auto files = list_all(layer->blob);
  ASSERT_TRUE(files.ok()) << files.error().text;
  std::string expected(1'000'000, '\0');
  expected.replace(4094, 3, "abc");
  expected.replace(999'998, 2, "de");
  EXPECT_EQ((*files)["sparse"].content, expected);
  EXPECT_LT(layer->blob.size(), 64U * 1024);
}

TEST(Layer, AHugeSparseFileCostsLittle) {
  const std::string tar =
      TarBuilder()
          .add({.name = "big",
                .data = "ab",
                .pax = {{"GNU.sparse.size", "8796093022208"}, {"GNU.sparse.map", "0,1,8796093022207,1"}}})
          .end();
  const auto layer = unpack(as_bytes(tar));
  ASSERT_TRUE(layer.ok()) << layer.error().text;
  EXPECT_EQ(list_all(layer->blob)->at("big").info.size, std::uint64_t{1} << 43);
}

TEST(Layer, DirectoriesLargerThanABlock) {
  TarBuilder tar;
  for (int i = 0; i < 3000; ++i) tar.add({.name = "d/" + std::string(90, 'n') + std::to_string(i)});
  const auto layer = unpack(as_bytes(tar.end()));
  ASSERT_TRUE(layer.ok()) << layer.error().text;
  const auto files = list_all(layer->blob);
  ASSERT_TRUE(files.ok()) << files.error().text;
  EXPECT_EQ(files->size(), 3002U);
}

TEST(Layer, TheRecordGivesTheSameTarBack) {
  std::string tar = TarBuilder()
                        .add({.name = "a", .data = std::string(5000, 'a')})
                        .add({.name = "a", .data = "again"})
                        .add({.name = ".wh.gone", .data = "data where none belongs"})
                        .add({.name = "s",
                              .data = "abcde",
                              .pax = {{"GNU.sparse.size", "9"}, {"GNU.sparse.map", "0,2,6,3"}}})
                        .end();
  tar += std::string(4096, '\0') + "trailing bytes";
  const auto layer = unpack(as_bytes(tar));
  ASSERT_TRUE(layer.ok()) << layer.error().text;
  EXPECT_EQ(layer->summary.tar_bytes, tar.size());
  EXPECT_EQ("sha256:" + layer->summary.diff_id_hex, digest_of(as_bytes(tar)));
  const auto again = rebuild(*layer);
  ASSERT_TRUE(again.ok()) << again.error().text;
  EXPECT_TRUE(*again == tar);
}

TEST(Layer, NeverTakesOverlayfsMarksFromAnImage) {
  const auto layer = unpack(as_bytes(TarBuilder()
                                         .add({.name = "d/",
                                               .type = '5',
                                               .pax = {{"SCHILY.xattr.trusted.overlay.opaque", "y"},
                                                       {"SCHILY.xattr.trusted.msb.implicit", ""},
                                                       {"SCHILY.xattr.user.keep", "1"},
                                                       {"SCHILY.xattr.system.nfs4_acl", "x"}}})
                                         .end()));
  ASSERT_TRUE(layer.ok()) << layer.error().text;
  EXPECT_EQ(layer->summary.dropped_xattrs, 3U);
  EXPECT_THAT(list_all(layer->blob)->at("d").xattrs, ElementsAre(Xattr{"user.keep", "1"}));
}

TEST(Layer, RefusesNamesThatLeadAstray) {
  EXPECT_THAT(refusal(TarBuilder().add({.name = "../etc/passwd"})), HasSubstr("leads upwards"));
  EXPECT_THAT(refusal(TarBuilder().add({.name = "a/../../b"})), HasSubstr("leads upwards"));
  EXPECT_THAT(refusal(TarBuilder().add({.name = "f"}).add({.name = "f/below"})),
              HasSubstr("not a directory"));
  EXPECT_THAT(refusal(TarBuilder().add({.name = "l", .type = '2', .link = "l"}).add({.name = "l/x"})),
              HasSubstr("too many symbolic links"));
  EXPECT_THAT(refusal(TarBuilder().add({.name = "e", .type = '2'})), HasSubstr("link target"));
  EXPECT_THAT(refusal(TarBuilder().add({.name = "h", .type = '1', .link = "../x"})),
              HasSubstr("leads upwards"));
  EXPECT_THAT(
      refusal(TarBuilder().add({.name = "d/", .type = '5'}).add({.name = "h", .type = '1', .link = "d"})),
      HasSubstr("hard link to a directory"));
  EXPECT_THAT(refusal(TarBuilder().gnu_long('L', std::string(256, 'n')).add({.name = "n"})),
              HasSubstr("255"));
  EXPECT_THAT(refusal(TarBuilder().add({.name = ".wh."})), HasSubstr("whiteout of no name"));
  EXPECT_THAT(refusal(TarBuilder().add({.name = ".wh..."})), HasSubstr("whiteout of no name"));
  EXPECT_THAT(refusal(TarBuilder().add({.name = ".wh.d/x"})), HasSubstr("below a whiteout"));
  EXPECT_THAT(refusal(TarBuilder().add({.name = "/", .type = '2', .link = "x"})), HasSubstr("root"));
}

TEST(Layer, LinksAreFollowedInsideTheTreeOnly) {
  const auto merged = testing::merge({TarBuilder()
                                          .add({.name = "etc/", .type = '5', .mode = 0755})
                                          .add({.name = "out", .type = '2', .link = "../../../etc"})
                                          .add({.name = "abs", .type = '2', .link = "/etc"})
                                          .add({.name = "out/one", .data = "1"})
                                          .add({.name = "abs/two", .data = "22"})
                                          .add({.name = "/absolute", .data = "333"})
                                          .end()});
  ASSERT_TRUE(merged.ok()) << merged.error().text;
  EXPECT_THAT(*merged,
              ElementsAre("abs l 777 0:0 -> /etc", "absolute f 644 0:0 3@0", "etc d 755 0:0",
                          "etc/one f 644 0:0 1@0", "etc/two f 644 0:0 2@0", "out l 777 0:0 -> ../../../etc"));
}

TEST(Layer, BoundsEntriesTextAttributesAndChunks) {
  Limits limits;
  limits.max_entries = 3;
  EXPECT_THAT(
      refusal(TarBuilder().add({.name = "a"}).add({.name = "b"}).add({.name = "c"}).add({.name = "d"}),
              limits),
      HasSubstr("more than 3 entries"));
  EXPECT_THAT(refusal(TarBuilder().add({.name = "a/b/c/d/e"}), limits), HasSubstr("more than 3 entries"));
  limits = {};
  limits.max_text_bytes = 1U << 16;
  TarBuilder names;
  for (int i = 0; i < 1000; ++i) names.add({.name = std::string(95, 'n') + std::to_string(i)});
  EXPECT_THAT(refusal(names, limits), HasSubstr("names and link targets"));
  limits = {};
  limits.max_xattr_bytes = 100;
  EXPECT_THAT(
      refusal(TarBuilder().add({.name = "a", .pax = {{"SCHILY.xattr.user.a", std::string(200, 'x')}}}),
              limits),
      HasSubstr("extended attributes take"));
  EXPECT_THAT(
      refusal(TarBuilder().add({.name = "a", .pax = {{"SCHILY.xattr.user.a", std::string(65536, 'x')}}})),
      HasSubstr("65536 bytes"));
  limits = {};
  limits.max_chunks = 10;
  EXPECT_THAT(refusal(TarBuilder().add({.name = "s",
                                        .data = "a",
                                        .pax = {{"GNU.sparse.size", "1000000"}, {"GNU.sparse.map", "0,1"}}}),
                      limits),
              HasSubstr("sparse files"));
}

// OCI image specification, "Representing Changes".
TEST(Merge, WhiteoutsOpaqueDirectoriesAndReplacement) {
  const std::string base = TarBuilder()
                               .add({.name = "dir/", .type = '5', .mode = 0700, .uid = 5})
                               .add({.name = "dir/old", .data = "1"})
                               .add({.name = "dir/sub/deep", .data = "1"})
                               .add({.name = "file", .data = "1"})
                               .add({.name = "tofile/", .type = '5', .mode = 0755})
                               .add({.name = "tofile/x", .data = "1"})
                               .add({.name = "todir", .data = "1"})
                               .end();
  const std::string next = TarBuilder()
                               .add({.name = "dir/.wh..wh..opq"})
                               .add({.name = "dir/new", .data = "22"})
                               .add({.name = ".wh.file"})
                               .add({.name = "tofile", .data = "22"})
                               .add({.name = "todir/", .type = '5', .mode = 0750})
                               .add({.name = "todir/y", .data = "22"})
                               .end();
  const auto merged = testing::merge({base, next});
  ASSERT_TRUE(merged.ok()) << merged.error().text;
  EXPECT_THAT(*merged, ElementsAre("dir d 700 5:0", "dir/new f 644 0:0 2@1", "todir d 750 0:0",
                                   "todir/y f 644 0:0 2@1", "tofile f 644 0:0 2@1"));
}

TEST(Merge, AWhiteoutDoesNotTouchItsOwnLayer) {
  const std::string base = TarBuilder().add({.name = "d/low", .data = "1"}).end();
  for (const bool before : {true, false}) {
    TarBuilder next;
    if (before) next.add({.name = ".wh.d"});
    next.add({.name = "d/", .type = '5', .mode = 0755}).add({.name = "d/high", .data = "22"});
    if (!before) next.add({.name = ".wh.d"});
    const auto merged = testing::merge({base, next.end()});
    ASSERT_TRUE(merged.ok()) << merged.error().text;
    EXPECT_THAT(*merged, ElementsAre("d d 755 0:0", "d/high f 644 0:0 2@1")) << before;
  }
}

TEST(Merge, HardLinksReachIntoLowerLayers) {
  const std::string base = TarBuilder().add({.name = "lib/a", .data = "1"}).end();
  const auto merged =
      testing::merge({base, TarBuilder().add({.name = "b", .type = '1', .link = "lib/a"}).end()});
  ASSERT_TRUE(merged.ok()) << merged.error().text;
  EXPECT_THAT(*merged, ElementsAre("b f 644 0:0 1@0", "lib d 755 0:0", "lib/a f 644 0:0 1@0"));
  const auto missing =
      testing::merge({base, TarBuilder().add({.name = "b", .type = '1', .link = "no"}).end()});
  ASSERT_FALSE(missing.ok());
  EXPECT_THAT(missing.error().text, HasSubstr("which no layer has"));
}

TEST(Merge, ImpliedDirectoriesKeepTheAttributesBelowThem) {
  const std::string base = TarBuilder()
                               .add({.name = "usr/lib/", .type = '5', .mode = 0711, .uid = 9})
                               .add({.name = "lib", .type = '2', .link = "usr/lib"})
                               .end();
  const auto merged = testing::merge({base, TarBuilder().add({.name = "lib/new", .data = "1"}).end()});
  ASSERT_TRUE(merged.ok()) << merged.error().text;
  EXPECT_THAT(*merged, ElementsAre("lib l 777 0:0 -> usr/lib", "usr d 755 0:0", "usr/lib d 711 9:0",
                                   "usr/lib/new f 644 0:0 1@1"));
}

}  // namespace
}  // namespace msb::oci
