// SPDX-License-Identifier: Apache-2.0
#include "net/policy.h"

#include <gtest/gtest.h>

namespace msb::net {
namespace {

IpAddress ip(const char* text) {
  const auto address = IpAddress::parse(text);
  EXPECT_TRUE(address) << text;
  return address.value_or(IpAddress());
}

AddressClassifier classifier() {
  AddressClassifier out({ip("172.16.0.1"), ip("fd42:6d73:62::1")}, {});
  out.set_host_prefixes({*IpPrefix::parse("192.168.7.20"), *IpPrefix::parse("5.6.7.8"),
                         *IpPrefix::parse("127.0.0.0/8"), *IpPrefix::parse("2a00:1450::5"),
                         *IpPrefix::parse("9.0.0.0/24")});
  return out;
}

Policy policy(std::initializer_list<const char*> rules, const char* rest = "") {
  std::string json = "{\"rules\":[";
  for (const char* rule : rules) json += (json.back() == '[' ? "\"" : ",\"") + std::string(rule) + "\"";
  auto document = JsonDocument::parse(json + "]" + rest + "}");
  auto spec = proto::parse_net_policy(document->root());
  EXPECT_TRUE(spec) << (spec ? "" : spec.error().text);
  return Policy::build(*spec);
}

Verdict out(const Policy& rules, const char* address, std::uint16_t port = 443,
            FlowProtocol protocol = FlowProtocol::kTcp) {
  FlowFacts facts;
  facts.address = ip(address);
  facts.port = port;
  facts.protocol = protocol;
  if (protocol != FlowProtocol::kTcp) facts.evidence = NameEvidence::kNever;
  return rules.judge_egress(facts, classifier()).verdict;
}

TEST(AddressClass, EverySpellingOfForbiddenPlaces) {
  const AddressClassifier c = classifier();
  const auto expect = [&](const char* text, AddressClass want) {
    EXPECT_EQ(address_class_name(c.classify(ip(text))), address_class_name(want)) << text;
  };
  using enum AddressClass;
  for (const char* text : {"1.1.1.1", "8.8.8.8", "100.63.255.255", "100.128.0.0", "172.15.255.255",
                           "172.32.0.0", "192.0.0.9", "223.255.255.255", "2606:4700::1111", "2620:4f:8000::1",
                           "64:ff9b::8.8.8.8", "::ffff:8.8.8.8", "2001:1::1", "2001:4:112::1"}) {
    expect(text, kPublic);
  }
  for (const char* text : {"10.0.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1", "fd00::1", "fc00::1",
                           "::ffff:10.0.0.1", "64:ff9b::10.0.0.1"})
    expect(text, kPrivate);
  for (const char* text : {"0.0.0.1",
                           "192.0.0.8",
                           "192.0.2.1",
                           "198.18.0.1",
                           "198.51.100.7",
                           "203.0.113.9",
                           "240.0.0.1",
                           "255.255.255.255",
                           "192.88.99.1",
                           "2001:db8::1",
                           "3fff::1",
                           "fec0::1",
                           "2001:0:808:808::f7f7:f7f7",
                           "2002:808:808::1",
                           "100::1",
                           "5f00::1",
                           "64:ff9b:1::1",
                           "4000::1",
                           "::8.8.8.8",
                           "::ffff:0:8.8.8.8"}) {
    expect(text, kReserved);
  }
  for (const char* text : {"127.0.0.1", "127.255.255.255", "::1", "::ffff:127.0.0.1", "64:ff9b::127.0.0.1",
                           "2002:7f00:1::", "::127.0.0.1", "::ffff:0:127.0.0.1", "2606:4700::5efe:127.0.0.1",
                           "fe80::200:5efe:7f00:1", "2001::80ff:fffe" /* teredo client 127.0.0.1 */}) {
    expect(text, kLoopback);
  }
  for (const char* text : {"169.254.169.254", "169.254.170.2", "169.254.170.23", "168.63.129.16",
                           "192.0.0.192", "100.100.100.200", "fd00:ec2::254", "fd20:ce::254", "fd00:42::42",
                           "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::1",
                           "fe80::a9fe:a9fe", "::169.254.169.254", "2606:4700::200:5efe:a9fe:a9fe"}) {
    expect(text, kMetadata);
  }
  for (const char* text :
       {"172.16.0.1", "fd42:6d73:62::1", "192.168.7.20", "5.6.7.8", "2a00:1450::5", "::ffff:5.6.7.8",
        "64:ff9b::5.6.7.8", "2002:506:708::1", "9.0.0.77", "::ffff:172.16.0.1"}) {
    expect(text, kHost);
  }
  expect("169.254.1.1", kLinkLocal);
  expect("fe80::1", kLinkLocal);
  expect("224.0.0.1", kMulticast);
  expect("ff02::1", kMulticast);
  expect("0.0.0.0", kUnspecified);
  expect("::", kUnspecified);
  expect("::ffff:0.0.0.0", kUnspecified);
}

TEST(Policy, DefaultProfile_PublicInternetOnly) {
  const Policy p = policy({});
  EXPECT_EQ(out(p, "1.2.3.4"), Verdict::kAllow);
  EXPECT_EQ(out(p, "2606:4700::1"), Verdict::kAllow);
  for (const char* bad : {"10.0.0.1", "127.0.0.1", "169.254.169.254", "168.63.129.16", "5.6.7.8",
                          "2a00:1450::5", "::ffff:10.0.0.1", "198.18.0.1", "64:ff9b::10.0.0.1", "240.0.0.1",
                          "224.0.0.251", "fd00:ec2::254", "100.64.1.1", "0.0.0.0"}) {
    EXPECT_EQ(out(p, bad), Verdict::kDeny) << bad;
  }
  EXPECT_EQ(out(p, "172.16.0.1", 53, FlowProtocol::kUdp), Verdict::kAllow);
  EXPECT_EQ(out(p, "172.16.0.1", 80), Verdict::kDeny);
  EXPECT_EQ(out(p, "5.6.7.8", 53, FlowProtocol::kUdp), Verdict::kDeny)
      << "a host address is not the sandbox's resolver";
}

TEST(Policy, AllAndBroadRules_NeverOpenGuardedPlaces) {
  for (const Policy& p : {policy({}, R"(,"profiles":["all"])"), policy({"allow@any"}),
                          policy({"allow@0.0.0.0/0"}), policy({}, R"(,"default_egress":"allow")")}) {
    EXPECT_EQ(out(p, "10.0.0.1"), Verdict::kAllow);
    for (const char* bad :
         {"127.0.0.1", "169.254.169.254", "5.6.7.8", "172.16.0.1", "192.168.7.20", "168.63.129.16"})
      EXPECT_EQ(out(p, bad, 80), Verdict::kDeny) << bad;
  }
}

TEST(Policy, HostAndLoopback_NeedARuleWithPort) {
  const Policy bare = policy({"allow@host", "allow@loopback"});
  EXPECT_EQ(out(bare, "172.16.0.1", 5432), Verdict::kDeny);
  EXPECT_EQ(out(bare, "127.0.0.1", 5432), Verdict::kDeny);
  EXPECT_EQ(bare.warnings().size(), 2U);
  const Policy named = policy({"allow@host:tcp:5432", "allow@127.0.0.0/8:tcp:80", "allow@meta:tcp:80"});
  EXPECT_EQ(out(named, "172.16.0.1", 5432), Verdict::kAllow);
  EXPECT_EQ(out(named, "172.16.0.1", 5433), Verdict::kDeny);
  EXPECT_EQ(out(named, "127.0.0.1", 80), Verdict::kAllow);
  EXPECT_EQ(out(named, "::1", 80), Verdict::kDeny);
  EXPECT_EQ(out(named, "169.254.169.254", 80), Verdict::kAllow);
}

TEST(Policy, RuleOrder_FirstMatchWins) {
  const Policy p = policy({"deny@1.2.3.4:tcp:80", "allow@1.2.3.0/24", "deny@public"});
  EXPECT_EQ(out(p, "1.2.3.4", 80), Verdict::kDeny);
  EXPECT_EQ(out(p, "1.2.3.4", 81), Verdict::kAllow);
  EXPECT_EQ(out(p, "::ffff:1.2.3.4", 80), Verdict::kDeny);
  EXPECT_EQ(out(p, "9.9.9.9", 80), Verdict::kDeny);
}

struct NamedFlow {
  std::vector<Hostname> bound;
  FlowFacts facts;
  explicit NamedFlow(const char* address, std::initializer_list<const char*> names,
                     NameEvidence evidence = NameEvidence::kPending, const char* shown = nullptr) {
    for (const char* name : names) bound.push_back(*Hostname::parse(name));
    facts.address = ip(address);
    facts.port = 443;
    facts.bound_names = bound;
    facts.evidence = evidence;
    if (shown != nullptr) facts.shown_name = *Hostname::parse(shown);
  }
};

TEST(Policy, NameAllow_BoundAndConfirmed) {
  const Policy p = policy({"allow@good.com"}, R"(,"default_egress":"deny")");
  const auto judge = [&](const NamedFlow& flow) { return p.judge_egress(flow.facts, classifier()).verdict; };
  EXPECT_EQ(judge(NamedFlow("1.2.3.4", {})), Verdict::kDeny);
  EXPECT_EQ(judge(NamedFlow("1.2.3.4", {"good.com"})), Verdict::kAskName);
  EXPECT_EQ(judge(NamedFlow("1.2.3.4", {"good.com"}, NameEvidence::kName, "good.com")), Verdict::kAllow);
  EXPECT_EQ(judge(NamedFlow("1.2.3.4", {"good.com"}, NameEvidence::kName, "evil.com")), Verdict::kDeny);
  EXPECT_EQ(judge(NamedFlow("1.2.3.4", {}, NameEvidence::kName, "good.com")), Verdict::kDeny)
      << "a name alone proves nothing";
  for (const NameEvidence e :
       {NameEvidence::kNone, NameEvidence::kOpaque, NameEvidence::kAmbiguous, NameEvidence::kNever}) {
    EXPECT_EQ(judge(NamedFlow("1.2.3.4", {"good.com"}, e)), Verdict::kDeny);
  }
  EXPECT_EQ(judge(NamedFlow("10.0.0.1", {"good.com"}, NameEvidence::kName, "good.com")), Verdict::kAllow)
      << "the resolver would not have bound it";
  EXPECT_EQ(judge(NamedFlow("127.0.0.1", {"good.com"}, NameEvidence::kName, "good.com")), Verdict::kDeny);
  EXPECT_EQ(judge(NamedFlow("169.254.169.254", {"good.com"}, NameEvidence::kName, "good.com")),
            Verdict::kDeny);
}

TEST(Policy, NameDeny_SettledByTheFlow) {
  const Policy p = policy({"deny@*.bad.com"});
  const auto judge = [&](const NamedFlow& flow) { return p.judge_egress(flow.facts, classifier()).verdict; };
  EXPECT_EQ(judge(NamedFlow("1.2.3.4", {})), Verdict::kAskName);
  EXPECT_EQ(judge(NamedFlow("10.1.1.1", {})), Verdict::kDeny) << "no dial where the rest denies";
  EXPECT_EQ(judge(NamedFlow("1.2.3.4", {"x.bad.com"})), Verdict::kDeny);
  EXPECT_EQ(judge(NamedFlow("1.2.3.4", {"ok.com", "x.bad.com"})), Verdict::kAskName);
  EXPECT_EQ(judge(NamedFlow("1.2.3.4", {"ok.com", "x.bad.com"}, NameEvidence::kName, "ok.com")),
            Verdict::kAllow);
  EXPECT_EQ(judge(NamedFlow("1.2.3.4", {}, NameEvidence::kName, "x.bad.com")), Verdict::kDeny);
  EXPECT_EQ(judge(NamedFlow("1.2.3.4", {}, NameEvidence::kAmbiguous)), Verdict::kDeny);
  EXPECT_EQ(judge(NamedFlow("1.2.3.4", {}, NameEvidence::kOpaque)), Verdict::kAllow);
}

TEST(Policy, OthersResolvers_RefusedUnderNameRules) {
  const Policy p = policy({"deny@bad.com"});
  EXPECT_EQ(out(p, "9.9.9.9", 853), Verdict::kDeny);
  EXPECT_EQ(out(p, "9.9.9.9", 853, FlowProtocol::kUdp), Verdict::kDeny);
  EXPECT_EQ(out(p, "1.1.1.1", 443), Verdict::kDeny);
  EXPECT_EQ(out(policy({"deny@bad.com", "allow@9.9.9.9:tcp:853"}), "9.9.9.9", 853), Verdict::kAskName);
  EXPECT_EQ(out(policy({"allow@9.9.9.9:tcp:853", "deny@bad.com"}), "9.9.9.9", 853), Verdict::kAllow);
  EXPECT_EQ(out(policy({}), "9.9.9.9", 853), Verdict::kAllow) << "no name rules: nothing to get around";
}

TEST(Policy, Lookup_OnlyWhatCouldBeUsed) {
  const auto lookup = [](const Policy& p, const char* name) {
    return p.judge_lookup(*Hostname::parse(name)).verdict;
  };
  const Policy list =
      policy({"allow@dns", "allow@good.com", "allow@*.cdn.net"}, R"(,"default_egress":"deny")");
  EXPECT_EQ(lookup(list, "good.com"), Verdict::kAllow);
  EXPECT_EQ(lookup(list, "a.cdn.net"), Verdict::kAllow);
  EXPECT_EQ(lookup(list, "x0123456789.tunnel.evil.com"), Verdict::kDeny);
  EXPECT_EQ(lookup(policy({}), "any.example"), Verdict::kAllow);
  EXPECT_EQ(lookup(policy({"deny@bad.com"}), "bad.com"), Verdict::kDeny);
  EXPECT_EQ(lookup(policy({}, R"(,"profiles":["none"])"), "good.com"), Verdict::kDeny);
}

TEST(Policy, Answers_ForbiddenRangesOnlyWhereReachable) {
  const Hostname name = *Hostname::parse("a.com");
  const auto fine = [&](const Policy& p, const char* address) {
    return p.answer_allowed(name, ip(address), classifier());
  };
  const Policy p = policy({"allow@10.1.0.0/16:tcp:5432"});
  EXPECT_TRUE(fine(p, "1.2.3.4"));
  EXPECT_TRUE(fine(p, "10.1.2.3"));
  for (const char* bad : {"10.2.0.1", "127.0.0.1", "169.254.169.254", "::1", "fd00::1", "::ffff:10.2.0.1",
                          "64:ff9b::10.2.0.1", "5.6.7.8", "0.0.0.0", "192.168.7.20", "2002:7f00:1::"}) {
    EXPECT_FALSE(fine(p, bad)) << bad;
  }
  EXPECT_FALSE(fine(policy({"allow@a.com"}), "10.2.0.1")) << "a name rule is no licence for inner addresses";
  EXPECT_FALSE(fine(policy({}, R"(,"profiles":["all"])"), "127.0.0.1"));
  EXPECT_TRUE(fine(policy({}, R"(,"profiles":["all"])"), "10.2.0.1"));
}

TEST(Policy, Ingress_ByPeer) {
  FlowFacts facts;
  facts.address = ip("127.0.0.1");
  facts.port = 80;
  EXPECT_EQ(policy({}).judge_ingress(facts, classifier()).verdict, Verdict::kAllow);
  EXPECT_EQ(policy({"deny:ingress@loopback:tcp:80"}).judge_ingress(facts, classifier()).verdict,
            Verdict::kDeny);
  EXPECT_EQ(policy({}, R"(,"profiles":["none"])").judge_ingress(facts, classifier()).verdict, Verdict::kDeny);
  EXPECT_EQ(policy({"allow:ingress@any:tcp:80"}, R"(,"default_ingress":"deny")")
                .judge_ingress(facts, classifier())
                .verdict,
            Verdict::kAllow);
}

}  // namespace
}  // namespace msb::net
