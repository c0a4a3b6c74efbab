// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "base/file.h"
#include "supervisor/network.h"
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
  spec.network.profiles = {"public", "private"};
  spec.network.rules = {"deny@meta", "allow@*.example.org:tcp:443,deny@10.0.0.0/8"};
  spec.network.strict = false;
  spec.network.observe = true;
  spec.network.ports = {{"127.0.0.1", 8080, 80, false}, {"::1", 0, 53, true}};
  spec.network.nameservers = {"1.1.1.1"};
  spec.network.dns_timeout_ms = 1500;
  spec.network.rebind_protection = false;
  spec.network.egress = {1000, 500, 10, 0};
  spec.network.ingress.bytes_per_s = 1 << 20;
  spec.network.max_connections = 100;
  spec.network.max_total_bytes = 1 << 30;
  spec.network.proxy = "socks5://me@10.0.0.1:1080";
  spec.network.proxy_password_file = "/host/password";
  spec.host_sockets = {{"/run/agent.sock", 5000}, {"/run/a:b", 7}};
  spec.network.pcap = "/host/frames.pcap";
  spec.network.pcap_limit = 4096;
  spec.max_duration_ms = 3'600'000;
  spec.idle_timeout_ms = 90'500;
  spec.stop_timeout_ms = 1;
  spec.ephemeral = true;
  spec.require_confinement = true;
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
      {R"({"network":{"modes":"some"}})", "network: unknown key \"modes\""},
      {R"({"network":{"egress":{"bytes_per_s":"lots"}}})", "network.egress.bytes_per_s: invalid size"},
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
  EXPECT_TRUE(broken([](SandboxSpec& s) { s.network.enabled = false, s.network.ports = {{}}; }));
  EXPECT_TRUE(broken([](SandboxSpec& s) {
    s.network.ports = {{"::1", 80, 1, false}, {"::1", 80, 2, false}};
  }));
  EXPECT_TRUE(broken([](SandboxSpec& s) { s.log_level = "loud"; }));
}

}  // namespace
}  // namespace msb::supervisor

namespace msb::supervisor {
namespace {

TEST(NetworkSpec, WhatMsbNetCouldNotEnforce_Refused) {
  const auto refused = [](auto change) {
    NetworkSpec network;
    change(network);
    return !check_network(network).ok();
  };
  EXPECT_FALSE(refused([](NetworkSpec&) {}));
  EXPECT_TRUE(refused([](NetworkSpec& n) { n.profiles = {"some"}; }));
  EXPECT_TRUE(refused([](NetworkSpec& n) { n.profiles = {"all", "public"}; }));
  EXPECT_TRUE(refused([](NetworkSpec& n) { n.profiles = {"public"}, n.default_egress = "deny"; }));
  EXPECT_TRUE(refused([](NetworkSpec& n) { n.default_egress = "drop"; }));
  EXPECT_TRUE(refused([](NetworkSpec& n) { n.rules = {"allow@example.org:443"}; }));
  EXPECT_TRUE(refused([](NetworkSpec& n) { n.nameservers = {"dns.example"}; }));
  EXPECT_TRUE(refused([](NetworkSpec& n) { n.egress.burst_bytes = 5; }));
  EXPECT_TRUE(refused([](NetworkSpec& n) { n.proxy = "10.0.0.1:1080"; }));
  EXPECT_TRUE(refused([](NetworkSpec& n) { n.proxy = "ftp://10.0.0.1:1080"; }));
  EXPECT_FALSE(refused([](NetworkSpec& n) { n.proxy = "http://[fd00::1]:3128"; }));
  EXPECT_TRUE(refused([](NetworkSpec& n) { n.pcap = "relative"; }));
  EXPECT_TRUE(refused([](NetworkSpec& n) { n.proxy_password_file = "/p"; }));
  EXPECT_TRUE(refused([](NetworkSpec& n) {
    n.proxy = "socks5://10.0.0.1:1080";
    n.proxy_password_file = "/p";
  }));
  EXPECT_TRUE(refused([](NetworkSpec& n) {
    n.proxy = "socks5://me@10.0.0.1:1080";
    n.proxy_password_file = "p";
  }));
  EXPECT_FALSE(refused([](NetworkSpec& n) {
    n.proxy = "http://me@10.0.0.1:1080";
    n.proxy_password_file = "/p";
  }));
  EXPECT_TRUE(refused([](NetworkSpec& n) { n.pcap_limit = 4096; }));
  EXPECT_FALSE(refused([](NetworkSpec& n) { n.enabled = false; }));
  EXPECT_TRUE(refused([](NetworkSpec& n) { n.enabled = false, n.rules = {"allow@public"}; }));
}

TEST(NetworkSpec, PresetsOfConfigurationFiles) {
  const auto network = [](const std::string& json) {
    auto spec = spec_from_json("{\"network\":" + json + "}");
    EXPECT_TRUE(spec.ok()) << json;
    return spec.ok() ? spec->network : NetworkSpec{};
  };
  EXPECT_FALSE(network("\"none\"").enabled);
  EXPECT_EQ(network("\"open\"").profiles, std::vector<std::string>{"all"});
  EXPECT_EQ(network(R"({"mode":"open"})").profiles, std::vector<std::string>{"all"});
  EXPECT_EQ(network(R"({"egress":{"bytes_per_s":"1.5M","packets_per_s":7}})").egress.bytes_per_s, 1'572'864U);
}

TEST(NetworkSecrets, APasswordIsOneLineOfText) {
  const std::string path = testing::TempDir() + "password-" + std::to_string(::getpid());
  const auto read = [&](std::string_view content) {
    const UniqueFd file = open_file(path, O_WRONLY | O_CREAT | O_TRUNC, 0600).value();
    EXPECT_TRUE(write_all(file.get(), content));
    NetworkSpec network;
    network.proxy_password_file = path;
    return net_secrets_json(network);
  };
  EXPECT_EQ(read("s3 cret\"\n").value(), R"({"proxy_password":"s3 cret\""})");
  EXPECT_TRUE(read(std::string(255, 'x')));
  for (const std::string& bad :
       {std::string(), std::string("\n"), std::string("two\nlines"), std::string("a\0b", 3),
        std::string("\xff"), std::string(256, 'x'), std::string(5000, 'x')}) {
    EXPECT_FALSE(read(bad)) << bad.size();
  }
  ::unlink(path.c_str());
  NetworkSpec missing;
  missing.proxy_password_file = path;
  EXPECT_FALSE(net_secrets_json(missing));
}

}  // namespace
}  // namespace msb::supervisor
