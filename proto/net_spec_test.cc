// SPDX-License-Identifier: Apache-2.0
#include "proto/net_spec.h"

#include <gtest/gtest.h>

namespace msb::proto {
namespace {

constexpr const char* kGuest = R"("guest":{"ipv4":{"address":"172.16.0.2","prefix":30,"gateway":"172.16.0.1"},
  "ipv6":{"address":"fd42:6d73:62::2","prefix":64,"gateway":"fd42:6d73:62::1"}})";

Result<NetSpec> parse(const std::string& members) {
  return NetSpec::parse("{\"version\":1," + std::string(kGuest) + (members.empty() ? "" : "," + members) +
                        "}");
}

TEST(NetSpec, Parse_Minimal_HasSafeDefaults) {
  auto spec = parse("");
  ASSERT_TRUE(spec) << spec.error().text;
  EXPECT_TRUE(spec->policy.strict);
  EXPECT_TRUE(spec->dns.rebind_protection);
  EXPECT_EQ(spec->guest.mtu, 65520);
  EXPECT_EQ(spec->dns.timeout_ms, 5000U);
  EXPECT_FALSE(spec->vnet_hdr);
}

TEST(NetSpec, Parse_Full) {
  auto spec = parse(
      R"("vnet_hdr":true,"policy":{"profiles":["public","private"],"rules":["deny@meta","allow@a.b:tcp:443,deny@b.c"]},
    "dns":{"upstreams":["9.9.9.9","[2620:fe::fe]:5353"],"routes":[{"suffix":"corp.test","upstreams":["10.0.0.53:54"]}]},
    "ports":["8080:80","[::1]:0:53/udp",{"host":9000,"guest":90,"count":10}],
    "limits":{"egress_bytes_per_s":1000,"egress_burst_bytes":5},"proxy":{"kind":"socks5","address":"10.0.0.1:1080"})");
  ASSERT_TRUE(spec) << spec.error().text;
  EXPECT_EQ(spec->policy.rules.size(), 3U);
  EXPECT_EQ(spec->dns.upstreams[1].port, 5353);
  EXPECT_EQ(spec->ports[1].bind.text(), "::1");
  EXPECT_EQ(spec->ports[1].protocol, NetProtocol::kUdp);
  EXPECT_EQ(spec->ports[2].count, 10);
}

TEST(NetSpec, Parse_WhatCannotBeMeant_Refused) {
  for (const char* members :
       {R"("polcy":{})", R"("policy":{"profiles":["all","public"]})",
        R"("policy":{"profiles":["public"],"default_egress":"deny"})",
        R"("policy":{"rules":["allow@example.com:443"]})", R"("policy":{"default_egress":"drop"})",
        R"("ports":["80"])", R"("ports":["1-3:1-2"])", R"("ports":["80:0"])",
        R"("ports":["65535-65536:1-2"])", R"("ports":["::1:80:80"])", R"("limits":{"egress_burst_bytes":5})",
        R"("dns":{"upstreams":["dns.google"]})", R"("proxy":{"kind":"ftp","address":"1.1.1.1:1"})",
        R"("proxy":{"kind":"http","address":"1.1.1.1"})", R"("host_alias":"a b")"}) {
    EXPECT_FALSE(parse(members)) << members;
  }
  EXPECT_FALSE(NetSpec::parse(R"({"version":1,"guest":{}})"));
  EXPECT_FALSE(NetSpec::parse(R"({"version":2,"guest":{}})"));
  EXPECT_FALSE(NetSpec::parse(
      R"({"version":1,"guest":{"ipv4":{"address":"10.0.0.2","prefix":30,"gateway":"10.0.0.5"}}})"));
}

TEST(NetPort, Parse_Ranges) {
  auto port = parse_net_port("0.0.0.0:8000-8010:80-90/tcp");
  ASSERT_TRUE(port);
  EXPECT_EQ(port->count, 11);
  EXPECT_EQ(port->host, 8000);
  EXPECT_EQ(port->guest, 80);
  EXPECT_EQ(port->bind.text(), "0.0.0.0");
}

}  // namespace
}  // namespace msb::proto
