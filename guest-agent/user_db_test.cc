// SPDX-License-Identifier: Apache-2.0
#include "guest-agent/user_db.h"

#include <gtest/gtest.h>

namespace msb::agent {
namespace {

constexpr std::string_view kPasswd =
    "root:x:0:0:root:/root:/bin/sh\n"
    "# a comment\n"
    "broken line\n"
    "app:x:1000:1000:App,,,:/home/app:/bin/bash\n"
    "1234:x:77:78::/numeric:/bin/sh\n"
    "nohome:x:5:6\n"
    "last:x:2000:2000::/last:";
constexpr std::string_view kGroup =
    "root:x:0:\n"
    "wheel:x:10:root,app\n"
    "docker:x:999:app\n"
    "apples:x:11:apple\n"
    "app:x:1000:";

Identity resolve(std::string_view spec, const std::vector<std::string>& extra = {}) {
  auto identity = resolve_user(kPasswd, kGroup, spec, extra);
  EXPECT_TRUE(identity.ok()) << spec;
  return identity.ok() ? *identity : Identity{};
}

TEST(UserTest, Name_BringsGroupsAndHome) {
  const Identity app = resolve("app");
  EXPECT_EQ(app.uid, 1000U);
  EXPECT_EQ(app.gid, 1000U);
  EXPECT_EQ(app.home, "/home/app");
  EXPECT_EQ(app.groups, (std::vector<gid_t>{10, 999}));
}

TEST(UserTest, Nothing_IsRoot) {
  const Identity root = resolve("");
  EXPECT_EQ(root.uid, 0U);
  EXPECT_EQ(root.home, "/root");
  EXPECT_EQ(root.groups, (std::vector<gid_t>{10}));
  EXPECT_EQ(resolve_user("", "", "", {})->home, "/root");
}

TEST(UserTest, Numbers_NeedNotBeListed) {
  const Identity known = resolve("1000");
  EXPECT_EQ(known.name, "app");
  const Identity unknown = resolve("4321:8765");
  EXPECT_EQ(unknown.uid, 4321U);
  EXPECT_EQ(unknown.gid, 8765U);
  EXPECT_EQ(unknown.home, "/");
  EXPECT_EQ(resolve("nohome").home, "/") << "a line may end early";
  EXPECT_EQ(resolve("1234").uid, 77U) << "a name wins over a number";
}

TEST(UserTest, ExplicitGroup_ReplacesTheListedOnes) {
  const Identity identity = resolve("app:wheel", {"docker", "55"});
  EXPECT_EQ(identity.gid, 10U);
  EXPECT_EQ(identity.groups, (std::vector<gid_t>{999, 55}));
}

TEST(UserTest, LastLineWithoutNewline_Counts) { EXPECT_EQ(resolve("last").uid, 2000U); }

TEST(UserTest, UnknownNames_AreRefused) {
  for (const char* spec : {"ghost", "app:ghost", "-1", "4294967295", "1e3", " app"}) {
    EXPECT_FALSE(resolve_user(kPasswd, kGroup, spec, {}).ok()) << spec;
  }
  EXPECT_FALSE(resolve_user(kPasswd, kGroup, "app", {"ghost"}).ok());
}

TEST(OwnerTest, PartsMayBeMissing) {
  const auto both = resolve_owner(kPasswd, kGroup, "app:docker");
  ASSERT_TRUE(both.ok());
  EXPECT_EQ(both->uid, 1000U);
  EXPECT_EQ(both->gid, 999U);
  EXPECT_EQ(resolve_owner(kPasswd, kGroup, ":wheel")->uid, static_cast<uid_t>(-1));
  EXPECT_EQ(resolve_owner(kPasswd, kGroup, "app")->gid, static_cast<gid_t>(-1));
  EXPECT_FALSE(resolve_owner(kPasswd, kGroup, "ghost").ok());
}

}  // namespace
}  // namespace msb::agent
