// SPDX-License-Identifier: Apache-2.0
#include "base/image_reference.h"

#include <gtest/gtest.h>

#include <string>

namespace msb {
namespace {

const std::string kDigest = "sha256:" + std::string(64, 'a');

std::string canonical(std::string_view text) {
  auto parsed = parse_image_reference(text);
  return parsed ? parsed->canonical() : "error: " + parsed.error().text;
}

TEST(ImageReferenceTest, ShortNames_GetDockersDefaults) {
  EXPECT_EQ(canonical("busybox"), "docker.io/library/busybox:latest");
  EXPECT_EQ(canonical("busybox:1.36"), "docker.io/library/busybox:1.36");
  EXPECT_EQ(canonical("grafana/loki"), "docker.io/grafana/loki:latest");
  EXPECT_EQ(canonical("index.docker.io/busybox"), "docker.io/library/busybox:latest");
  EXPECT_EQ(canonical("docker.io/library/busybox"), "docker.io/library/busybox:latest");
}
TEST(ImageReferenceTest, RegistryIsFoundByItsShape) {
  EXPECT_EQ(canonical("ghcr.io/a/b/c:v1"), "ghcr.io/a/b/c:v1");
  EXPECT_EQ(canonical("localhost/x"), "localhost/x:latest");
  EXPECT_EQ(canonical("localhost:5000/x"), "localhost:5000/x:latest");
  EXPECT_EQ(canonical("LOCALHOST:5000/x"), "localhost:5000/x:latest");
  EXPECT_EQ(canonical("[::1]:5000/x:y"), "[::1]:5000/x:y");
  EXPECT_EQ(canonical("192.0.2.1:443/x"), "192.0.2.1:443/x:latest");
}
TEST(ImageReferenceTest, Digest_SuppressesTheDefaultTagAndKeepsAGivenOne) {
  EXPECT_EQ(canonical("busybox@" + kDigest), "docker.io/library/busybox@" + kDigest);
  EXPECT_EQ(canonical("busybox:1@" + kDigest), "docker.io/library/busybox:1@" + kDigest);
}
TEST(ImageReferenceTest, JointsOfNames_FollowTheGrammar) {
  // As a later part: a first part with a dot would be a registry's host.
  EXPECT_TRUE(parse_image_reference("g/a.b_c__d-e---f").ok());
  for (const char* bad : {"a..b", "a___b", "a.-b", "-a", "a-", "a//b", "/a", "a/", "a b", "A", "a/B", "é"}) {
    EXPECT_FALSE(parse_image_reference(bad).ok()) << bad;
  }
}
TEST(ImageReferenceTest, WrongParts_AreRefused) {
  const std::string long_name(256, 'a');
  const std::string id(64, '0');
  for (const std::string& bad :
       {std::string(), std::string(":tag"), std::string("a:"), std::string("a:.x"),
        "a:" + std::string(129, 'x'), std::string("a@"), std::string("a@md5:00"),
        "a@sha256:" + std::string(64, 'A'), std::string("a@") + kDigest + "0", std::string("host:99999/a"),
        std::string("host:/a"), std::string("-h.com/a"), std::string("h..com/a"), std::string("[::1/a"),
        std::string("[]/a"), long_name, id, std::string("localhost/") + id, std::string("a\0b", 3)}) {
    EXPECT_FALSE(parse_image_reference(bad).ok()) << bad;
  }
}
TEST(ImageReferenceTest, ErrorText_ShowsNoControlBytes) {
  auto parsed = parse_image_reference("a\x1b[31m");
  ASSERT_FALSE(parsed.ok());
  EXPECT_EQ(parsed.error().text.find('\x1b'), std::string::npos);
}
TEST(ImageReferenceTest, Familiar_IsTheShortestSpellingOfTheSameImage) {
  for (const std::string& text :
       {std::string("busybox"), std::string("a/b"), std::string("ghcr.io/a/b:2"),
        std::string("localhost:5000/x"), "busybox:latest@" + kDigest, "busybox@" + kDigest}) {
    auto parsed = parse_image_reference(text);
    ASSERT_TRUE(parsed.ok());
    EXPECT_EQ(parsed->familiar(), text);
    EXPECT_EQ(canonical(parsed->familiar()), parsed->canonical());
  }
}
TEST(ImageReferenceTest, Key_IsTheHashOfTheCanonicalForm) {
  auto a = parse_image_reference("busybox");
  auto b = parse_image_reference("docker.io/library/busybox:latest");
  ASSERT_TRUE(a.ok() && b.ok());
  EXPECT_EQ(a->key(), b->key());
  EXPECT_EQ(a->key().size(), 64U);
}

}  // namespace
}  // namespace msb
