// SPDX-License-Identifier: Apache-2.0
#include "proto/vm_spec.h"

#include <gtest/gtest.h>

#include "proto/control.h"
#include "proto/exit_reason.h"

namespace msb::proto {
namespace {

constexpr const char* kHead =
    R"({"version":1,"name":"x","dir":"/d","kernel":"/k","initrd":"/i","root":{"kind":"erofs","extents":[{"path":"/b","offset":0,"length":4096}]})";

Result<VmSpec> parse(const std::string& rest) { return VmSpec::parse(kHead + rest + "}"); }

TEST(VmSpec, Smallest_HasDefaults) {
  const auto spec = parse("");
  ASSERT_TRUE(spec) << spec.error().text;
  EXPECT_EQ(spec->cpus_online, 1U);
  EXPECT_EQ(spec->memory_mib, 512U);
  EXPECT_FALSE(spec->upper);
  EXPECT_FALSE(spec->main);
  EXPECT_FALSE(spec->net.enabled);
  EXPECT_EQ(spec->timeouts.stop_grace_s, 10U);
}

TEST(VmSpec, Whole) {
  const auto spec = parse(
      R"(,"cpus":{"online":2,"max":8,"template":"conservative"},"memory_mib":{"size":256,"max":1024},
      "upper":{"kind":"ext4","path":"/u"},"disks":[{"path":"/x","readonly":true,"id":"data"}],
      "net":{"enabled":true,"config":{"version":1}},"guest":{"version":1,"hostname":"h"},
      "main":{"op":"exec","argv":["true"],"log":true},"leash_fd":5,"ready_fd":4,"confinement":"require",
      "timeouts":{"boot_s":5,"idle_s":9},"log":{"max_bytes":1000,"files":2})");
  ASSERT_TRUE(spec) << spec.error().text;
  EXPECT_EQ(spec->cpus_max, 8U);
  EXPECT_EQ(spec->upper, "/u");
  EXPECT_EQ(spec->disks[0].id, "data");
  EXPECT_EQ(spec->net.config, R"({"version":1})");
  EXPECT_EQ(spec->ready_fd, 4);
  EXPECT_EQ(spec->confinement, VmSpec::Confinement::kRequire);
  EXPECT_TRUE(spec->main);
  EXPECT_TRUE(spec->main_logged);
  EXPECT_NE(spec->main->find("argv"), std::string::npos);
  EXPECT_EQ(spec->main->find("log"), std::string::npos) << "the agent tells it no second time";
}

struct Bad {
  const char* rest;
  const char* text;
};
class VmSpecBad : public ::testing::TestWithParam<Bad> {};

TEST_P(VmSpecBad, Refused_NamesTheMember) {
  const auto spec = parse(GetParam().rest);
  ASSERT_FALSE(spec) << GetParam().rest;
  EXPECT_NE(spec.error().text.find(GetParam().text), std::string::npos) << spec.error().text;
}

INSTANTIATE_TEST_SUITE_P(
    All, VmSpecBad,
    ::testing::Values(
        Bad{R"(,"nonsense":1)", "nonsense"}, Bad{R"(,"cpus":{"online":0})", "cpus"},
        Bad{R"(,"cpus":{"online":65})", "cpus.online"}, Bad{R"(,"cpus":{"online":3,"max":2})", "max"},
        Bad{R"(,"cpus":{"template":"fast"})", "template"}, Bad{R"(,"memory_mib":{"size":32})", "64 MiB"},
        Bad{R"(,"memory_mib":{"size":18446744073709551615})", "memory_mib.size"},
        Bad{R"(,"upper":{"kind":"ntfs"})", "upper"}, Bad{R"(,"upper":{"kind":"tmpfs","path":"/x"})", "upper"},
        Bad{R"(,"disks":[{"path":"x"}])", "disks[0].path"},
        Bad{R"(,"host_sockets":[{"port":5000,"path":"x"}])", "host_sockets[0].path"},
        Bad{R"(,"host_sockets":[{"port":1,"path":"/x"}])", "host_sockets[0]"},
        Bad{R"(,"host_sockets":[{"port":4294967295,"path":"/x"}])", "host_sockets[0].port"},
        Bad{R"(,"host_sockets":[{"port":9,"path":"/x"},{"port":9,"path":"/y"}])", "host_sockets[1]"},
        Bad{R"(,"disks":[{"path":"/x","id":"has space"}])", "disks[0]"},
        Bad{R"(,"net":{"enabled":true})", "config"}, Bad{R"(,"guest":{"version":1,"x":1})", "guest"},
        Bad{R"(,"main":{"op":"exec","argv":[]})", "argv"},
        Bad{R"(,"main":{"op":"exec","argv":["a"],"stdin":true})", "main"},
        Bad{R"(,"ready_fd":2)", "ready_fd"}, Bad{R"(,"leash_fd":"x")", "leash_fd"},
        Bad{R"(,"timeouts":{"boot_s":0})", "boot_s"}, Bad{R"(,"confinement":"no")", "confinement"}));

TEST(VmSpec, Extents_MustBeWhole) {
  for (const char* extent :
       {R"({"path":"/b","offset":1,"length":4096})", R"({"path":"/b","offset":0,"length":0})",
        R"({"path":"/b","offset":0,"length":100})", R"({"path":"b","offset":0,"length":4096})"}) {
    const std::string json =
        std::string(
            R"({"version":1,"name":"x","dir":"/d","kernel":"/k","initrd":"/i","root":{"kind":"erofs","extents":[)") +
        extent + "]}}";
    EXPECT_FALSE(VmSpec::parse(json)) << extent;
  }
}

TEST(ControlRequest, Parse) {
  const auto stop = ControlRequest::parse(R"({"op":"stop","grace_ms":5,"force":true})");
  ASSERT_TRUE(stop);
  EXPECT_EQ(stop->op, ControlOp::kStop);
  EXPECT_EQ(stop->grace_ms, 5U);
  EXPECT_TRUE(stop->force);
  EXPECT_EQ(ControlRequest::parse(R"({"op":"fly"})").error().code, Errc::kUnsupported);
  EXPECT_FALSE(ControlRequest::parse(R"({"op":"kill","grace_ms":5})"));
  EXPECT_FALSE(ControlRequest::parse("[]"));
}

TEST(ExitReason, NamesGoBothWays) {
  for (int value = 0; value <= static_cast<int>(ExitReason::kAgentTimeout); ++value) {
    const auto reason = static_cast<ExitReason>(value);
    EXPECT_EQ(exit_reason_from_name(exit_reason_name(reason)), reason);
  }
  EXPECT_EQ(exit_reason_from_name("bored"), std::nullopt);
}

}  // namespace
}  // namespace msb::proto
