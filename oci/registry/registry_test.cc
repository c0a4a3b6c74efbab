// SPDX-License-Identifier: Apache-2.0
// What registries and other programs' files say, taken apart. The client itself is tested against real and
// hostile registries in tests/images.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/base64.h"
#include "oci/manifest.h"
#include "oci/registry/auth_challenge.h"
#include "oci/registry/credentials.h"
#include "oci/registry/registry_config.h"

namespace msb::oci {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(AuthChallenge, BearerAsRegistriesSendIt) {
  const auto challenge = parse_auth_challenge(
      R"(Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull")");
  ASSERT_TRUE(challenge.ok()) << challenge.error().text;
  EXPECT_EQ(challenge->kind, AuthChallenge::Kind::kBearer);
  EXPECT_EQ(challenge->realm, "https://auth.docker.io/token");
  EXPECT_EQ(challenge->service, "registry.docker.io");
  EXPECT_EQ(challenge->scope, "repository:a/b:pull");
}

TEST(AuthChallenge, PrefersBearerAmongSeveral) {
  const auto challenge =
      parse_auth_challenge("Negotiate, basic realm=\"x\" , BEARER realm=\"https://t\", error=invalid_token");
  ASSERT_TRUE(challenge.ok()) << challenge.error().text;
  EXPECT_EQ(challenge->kind, AuthChallenge::Kind::kBearer);
  EXPECT_EQ(parse_auth_challenge("Basic realm=\"a \\\"b\\\"\"")->realm, "a \"b\"");
}

TEST(AuthChallenge, RefusesWhatItCannotMeet) {
  for (const char* header : {"", "Negotiate", "Bearer service=\"x\"", "Bearer realm=\"open", "=",
                             "Digest realm=\"x\", qop=auth", "Bearer realm=\"a\nb\""}) {
    EXPECT_FALSE(parse_auth_challenge(header).ok()) << header;
  }
}

TEST(AuthChallenge, EncodesForQueries) { EXPECT_EQ(url_encode("a b&c=d/é~"), "a%20b%26c%3Dd%2F%C3%A9~"); }

TEST(AuthFile, DockersAndPodmans) {
  const auto file = parse_auth_file(R"({"auths":{"https://index.docker.io/v1/":{"auth":")" +
                                    base64_encode(as_bytes(std::string_view("me:pass:word"))) +
                                    R"("},"quay.io/team":{"username":"u","password":"p"},"empty.example":{}},
    "credHelpers":{"gcr.io":"gcloud"},"credsStore":"secretservice","HttpHeaders":{"x":"y"}})");
  ASSERT_TRUE(file.ok()) << file.error().text;
  EXPECT_EQ(file->logins.size(), 2U);
  EXPECT_EQ(file->logins.at("docker.io").password, "pass:word");
  EXPECT_EQ(file->logins.at("quay.io/team").user, "u");
  EXPECT_EQ(file->helpers.at("gcr.io"), "gcloud");
  EXPECT_EQ(file->default_helper, "secretservice");
}

TEST(AuthFile, RefusesHalfReadableOnes) {
  for (const char* text :
       {"", "[]", R"({"auths":{"a":{"auth":"!!"}}})", R"({"auths":{"a":{"auth":"bm9jb2xvbg=="}}})",
        R"({"auths":{"a":{"username":1}}})", R"({"credsStore":[]})"}) {
    EXPECT_FALSE(parse_auth_file(text).ok()) << text;
  }
}

TEST(AuthFile, WrittenOnesReadTheSame) {
  AuthFile file;
  file.logins["localhost:5000"] = {"name", "with:colons and \"quotes\"", ""};
  const auto again = parse_auth_file(write_auth_file(file));
  ASSERT_TRUE(again.ok()) << again.error().text;
  EXPECT_EQ(again->logins.at("localhost:5000").password, "with:colons and \"quotes\"");
}

TEST(RegistryConfig, MirrorsComeFirstEachWithItsOwnSettings) {
  const auto config = parse_registry_config(R"({"registries":{
      "docker.io":{"mirrors":["m.example:5000/cache"]},
      "m.example:5000":{"plain_http":true}}})");
  ASSERT_TRUE(config.ok()) << config.error().text;
  const auto endpoints = endpoints_of(*config, "docker.io", "library/busybox");
  ASSERT_EQ(endpoints.size(), 2U);
  EXPECT_EQ(endpoints[0].base_url, "http://m.example:5000/v2/cache/library/busybox");
  EXPECT_TRUE(endpoints[0].policy.plain_http);
  EXPECT_EQ(endpoints[1].base_url, "https://registry-1.docker.io/v2/library/busybox");
  EXPECT_FALSE(endpoints[1].policy.plain_http);
}

TEST(RegistryConfig, RefusesUnknownKeysAndOddMirrors) {
  for (const char* text :
       {R"({"registry":{}})", R"({"registries":{"a":{"insecure":true}}})",
        R"({"registries":{"a":{"mirrors":["http://x y"]}}})", R"({"registries":{"a":{"mirrors":["/x"]}}})"}) {
    EXPECT_FALSE(parse_registry_config(text).ok()) << text;
  }
}

TEST(Manifest, RefusesTwoReadingsOfOneDocument) {
  const std::string digest = "sha256:" + std::string(64, 'a');
  const std::string descriptor = R"({"mediaType":"m","digest":")" + digest + R"(","size":1})";
  const std::string image =
      R"({"schemaVersion":2,"config":)" + descriptor + R"(,"layers":[)" + descriptor + "]";
  EXPECT_TRUE(parse_manifest(image + "}", "").ok());
  EXPECT_FALSE(parse_manifest(image + R"(,"manifests":[]})", "").ok());
  EXPECT_FALSE(parse_manifest(image + "}", "application/vnd.oci.image.index.v1+json").ok());
  EXPECT_EQ(parse_manifest(R"({"schemaVersion":1,"fsLayers":[]})", "").error().code, Errc::kUnsupported);
  EXPECT_FALSE(
      parse_manifest(R"({"schemaVersion":2,"config":{"digest":"sha512:aa","size":1},"layers":[]})", "").ok());
  EXPECT_FALSE(
      parse_manifest(R"({"schemaVersion":2,"config":{"digest":"sha256:../../../../x","size":1},"layers":[]})",
                     "")
          .ok());
}

TEST(Manifest, ChoosesByPlatformAndVariant) {
  const auto entry = [](const char* digit, const char* architecture, const char* variant) {
    return R"({"digest":"sha256:)" + std::string(64, *digit) +
           R"(","size":1,"platform":{"os":"linux","architecture":")" + architecture + R"(","variant":")" +
           variant + R"("}})";
  };
  const auto index = parse_manifest(R"({"schemaVersion":2,"manifests":[)" + entry("a", "arm", "v6") + "," +
                                        entry("b", "arm", "v7") + "," + entry("c", "arm64", "") + "]}",
                                    "");
  ASSERT_TRUE(index.ok()) << index.error().text;
  const auto chosen = [&](const char* platform) {
    const Descriptor* found = choose_platform(*index, *parse_platform(platform));
    return found == nullptr ? '-' : found->digest[7];
  };
  EXPECT_EQ(chosen("linux/arm"), 'b');
  EXPECT_EQ(chosen("linux/arm/v6"), 'a');
  EXPECT_EQ(chosen("linux/arm64/v8"), 'c');
  EXPECT_EQ(chosen("linux/amd64"), '-');
  EXPECT_EQ(offered_platforms(*index), "linux/arm/v6, linux/arm/v7, linux/arm64");
}

}  // namespace
}  // namespace msb::oci
