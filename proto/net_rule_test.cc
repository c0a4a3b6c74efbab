// SPDX-License-Identifier: Apache-2.0
#include "proto/net_rule.h"

#include <gtest/gtest.h>

namespace msb::proto {
namespace {

using Target = NetRule::Target;

TEST(NetRule, Parse_EveryTargetForm) {
  const auto rule = [](const char* text) {
    auto parsed = parse_net_rule(text);
    EXPECT_TRUE(parsed) << text << (parsed ? "" : parsed.error().text);
    return std::move(parsed).value();
  };
  EXPECT_EQ(rule("allow@any").target, Target::kAny);
  EXPECT_EQ(rule("deny:any@any").direction, NetDirection::kAny);
  EXPECT_EQ(rule("allow@dns").target, Target::kDns);
  EXPECT_EQ(rule("deny@link-local").group, NetGroup::kLinkLocal);
  EXPECT_EQ(rule("deny@meta").group, NetGroup::kMeta);
  EXPECT_EQ(rule("allow@10.0.0.5:tcp:5432").prefix.text(), "10.0.0.5/32");
  EXPECT_EQ(rule("allow@10.0.0.0/8").prefix.text(), "10.0.0.0/8");
  EXPECT_EQ(rule("allow@[2001:db8::/32]:udp:53").prefix.text(), "2001:db8::/32");
  EXPECT_EQ(rule("allow@Example.com").name->text(), "example.com");
  EXPECT_EQ(rule("allow@domain=db").name->text(), "db");
  EXPECT_EQ(rule("allow@*.example.com").target, Target::kSuffix);
  EXPECT_EQ(rule("allow@suffix=example.com:tcp:443").name->text(), "example.com");
  const NetRule ports = rule("allow:ingress@loopback:tcp:8000-8010");
  EXPECT_TRUE(ports.covers_port(8010));
  EXPECT_FALSE(ports.covers_port(8011));
  EXPECT_FALSE(rule("allow@host:tcp:any").names_port());
  EXPECT_EQ(parse_net_rules("deny@meta, allow@any")->size(), 2U);
}

TEST(NetRule, Parse_Mistakes_ExplainedNotAccepted) {
  const auto why = [](const char* text) {
    auto parsed = parse_net_rule(text);
    return parsed ? std::string("accepted") : parsed.error().text;
  };
  const auto expect = [&](const char* text, const char* part) {
    EXPECT_NE(why(text).find(part), std::string::npos) << text << " -> " << why(text);
  };
  expect("", "ACTION@TARGET");
  expect("allow", "ACTION@TARGET");
  expect("alow@any", "did you mean \"allow\"");
  expect("allow:out@any", "unknown direction");
  expect("allow@pubic", "did you mean \"public\"");
  expect("allow@intranet", "domain=intranet");
  expect("allow@example.com:443", "tcp:443");
  expect("allow@example.com:tpc:443", "did you mean \"tcp\"");
  expect("allow@any:tcp:90-80", "backwards");
  expect("allow@any:tcp:65536", "ports are");
  expect("allow@any:tcp:1:2", "trailing");
  expect("allow@*.com", "too broad");
  expect("allow@suffix=com", "too broad");
  expect("allow@example.com.", "no dot at its ends");
  expect("allow@.example.com", "no dot at its ends");
  expect("allow@[1.2.3.4]", "IPv6");
  expect("allow@[example.com]", "IPv6");
  expect("allow@2001:db8::1", "brackets");
  expect("allow@1.2.3.4/33", "network rule");
  expect("allow@010.0.0.1", "an address");
  expect("allow@dns:tcp:53", "has its port");
  expect("allow:ingress@dns", "egress only");
  expect("allow@any:icmpv4:8", "no ports");
  expect("allow:ingress@any:icmpv6", "egress only");
  expect("allow:ingress@example.com", "cannot be checked");
  expect("allow@ex ample.com", "no host name has");
  EXPECT_FALSE(parse_net_rules("allow@any,"));
  EXPECT_FALSE(parse_net_rules(""));
}

}  // namespace
}  // namespace msb::proto
