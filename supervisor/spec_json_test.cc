// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "supervisor/spec.h"

namespace msb::supervisor {
namespace {

SandboxSpec full_spec() {
  SandboxSpec spec;
  spec.name = "web";
  spec.image = "debian:12";
  spec.pull = PullPolicy::kNever;
  spec.cpus = 2;
  spec.max_cpus = 4;
  spec.memory_mib = 512;
  spec.max_memory_mib = 1024;
  spec.root_disk = {RootDisk::Kind::kTmpfs, 256};
  spec.entrypoint = std::vector<std::string>{"/bin/entry"};
  spec.cmd = std::vector<std::string>{};
  spec.env = {"A=1", "B=x y"};
  spec.workdir = "/srv";
  spec.user = "1000:1000";
  spec.shell = "/bin/bash";
  spec.hostname = "web-1";
  spec.stop_signal = "SIGINT";
  spec.labels = {{"team", "x"}, {"empty", ""}};
  spec.rlimits = {{"nofile", 1024, 4096}, {"memlock", kRlimitUnlimited, kRlimitUnlimited}};
  spec.mounts.resize(3);
  spec.mounts[0].target = "/t";
  spec.mounts[0].size_mib = 64;
  spec.mounts[0].noexec = true;
  spec.mounts[1] = {
      .kind = Mount::Kind::kBind, .source = "/host", .target = "/h", .readonly = true, .nosuid = true};
  spec.mounts[2] = {.kind = Mount::Kind::kVolume, .source = "data", .target = "/d", .nodev = true};
  spec.scripts = {{"hello", "#!/bin/sh\necho hi\n"}};
  spec.patches = {{.op = Patch::Op::kText, .path = "/etc/motd", .content = "hi\n", .mode = 0600},
                  {.op = Patch::Op::kFile, .path = "/etc/f", .source = "/host/f"},
                  {.op = Patch::Op::kRemove, .path = "/etc/x"}};
  spec.init = InitHandoff{"/sbin/init", {"--x"}, {"C=d"}};
  spec.network.mode = NetworkSpec::Mode::kOpen;
  spec.network.ports = {{"127.0.0.1", 8080, 80, false}, {"::1", 0, 53, true}};
  spec.network.nameservers = {"1.1.1.1"};
  spec.network.policy_json = R"({"allow":["example.org"]})";
  spec.max_duration_ms = 3'600'000;
  spec.idle_timeout_ms = 90'500;
  spec.stop_timeout_ms = 1;
  spec.ephemeral = true;
  spec.log_level = "debug";
  return spec;
}

TEST(SpecJson, RoundTripKeepsEveryField) {
  const SandboxSpec spec = full_spec();
  for (const bool pretty : {false, true}) {
    auto back = spec_from_json(spec_to_json(spec, pretty));
    ASSERT_TRUE(back.ok()) << back.error().text;
    EXPECT_EQ(*back, spec);
  }
  ASSERT_TRUE(validate_spec(spec).ok()) << validate_spec(spec).error().text;
}

TEST(SpecJson, DefaultsRoundTrip) {
  SandboxSpec spec;
  spec.image = "busybox";
  auto back = spec_from_json(spec_to_json(spec));
  ASSERT_TRUE(back.ok());
  EXPECT_EQ(*back, spec);
}

TEST(SpecJson, HumanFormsAreRead) {
  const auto spec =
      spec_from_json(R"({"image":"x","memory":"1.5G","env":{"A":1,"B":"b"},"mounts":["./a:/a:ro"],
      "ports":[80,"8080:80"],"cmd":"echo hi","init":"auto","network":"none","idle_timeout":60,"root_disk":1024})");
  ASSERT_TRUE(spec.ok()) << spec.error().text;
  EXPECT_EQ(spec->memory_mib, 1536U);
  EXPECT_EQ(spec->env, (std::vector<std::string>{"A=1", "B=b"}));
  EXPECT_TRUE(spec->mounts[0].readonly);
  EXPECT_EQ(spec->network.ports[0].guest, 80);
  EXPECT_EQ(*spec->cmd, (std::vector<std::string>{"/bin/sh", "-c", "echo hi"}));
  EXPECT_EQ(spec->init->path, "auto");
  EXPECT_EQ(spec->idle_timeout_ms, 60'000);
  EXPECT_EQ(spec->root_disk.size_mib, 1024U);
}

TEST(SpecJson, ErrorsNameThePlace) {
  const std::pair<const char*, const char*> cases[] = {
      {R"({"imag":"x"})", "imag: unknown key"},
      {R"({"memory":"lots"})", "memory: invalid size"},
      {R"({"mounts":[{"tmpfs":{},"target":"/x","bogus":1}]})", "mounts[0].bogus: unknown key"},
      {R"({"mounts":[{"target":"/x"}]})", "mounts[0]: needs exactly one"},
      {R"({"ports":["x"]})", "ports[0]: invalid port"},
      {R"({"patches":[{"op":"chmod","path":"/x"}]})", "patches[0].op: must be one of"},
      {R"({"patches":[{"op":"text","path":"/x","mode":"999"}]})", "mode: must be octal"},
      {R"({"env":3})", "env: must be an object"},
      {R"({"cpus":65})", "cpus: must be an integer"},
      {R"({"network":{"mode":"some"}})", "network.mode: must be one of"},
      {R"({"version":2})", "version"},
      {R"([])", "document: must be an object"},
  };
  for (const auto& [json, wanted] : cases) {
    const auto spec = spec_from_json(json);
    ASSERT_FALSE(spec.ok()) << json;
    EXPECT_NE(spec.error().text.find(wanted), std::string::npos) << json << " -> " << spec.error().text;
  }
}

TEST(SpecJson, StateFilesMayHoldNewerKeys) {
  const auto spec =
      spec_from_json(R"({"image":"x","from_the_future":{"a":1},"mounts":[{"tmpfs":{"n":1},"target":"/t"}]})",
                     UnknownKeys::kIgnore);
  ASSERT_TRUE(spec.ok()) << spec.error().text;
  EXPECT_EQ(spec->image, "x");
}

TEST(SpecValidate, RefusesContradictions) {
  const auto broken = [](auto change) {
    SandboxSpec spec;
    spec.image = "x";
    change(spec);
    return !validate_spec(spec).ok();
  };
  EXPECT_FALSE(broken([](SandboxSpec&) {}));
  EXPECT_TRUE(broken([](SandboxSpec& s) { s.image.clear(); }));
  EXPECT_TRUE(broken([](SandboxSpec& s) { s.cpus = 0; }));
  EXPECT_TRUE(broken([](SandboxSpec& s) { s.max_cpus = 1, s.cpus = 2; }));
  EXPECT_TRUE(broken([](SandboxSpec& s) { s.memory_mib = 1; }));
  EXPECT_TRUE(broken([](SandboxSpec& s) { s.max_memory_mib = 100; }));
  EXPECT_TRUE(broken([](SandboxSpec& s) { s.root_disk = {RootDisk::Kind::kTmpfs, 1 << 20}; }));
  EXPECT_TRUE(broken([](SandboxSpec& s) { s.env = {"\xff=1"}; }));
  EXPECT_TRUE(broken([](SandboxSpec& s) { s.env = {"A"}; }));
  EXPECT_TRUE(broken([](SandboxSpec& s) { s.mounts.resize(1), s.mounts[0].target = "/"; }));
  EXPECT_TRUE(broken([](SandboxSpec& s) { s.patches.resize(1), s.patches[0].path = "x"; }));
  EXPECT_TRUE(
      broken([](SandboxSpec& s) { s.network.mode = NetworkSpec::Mode::kNone, s.network.ports = {{}}; }));
  EXPECT_TRUE(broken([](SandboxSpec& s) {
    s.network.ports = {{"::1", 80, 1, false}, {"::1", 80, 2, false}};
  }));
  EXPECT_TRUE(broken([](SandboxSpec& s) { s.log_level = "loud"; }));
}

}  // namespace
}  // namespace msb::supervisor
