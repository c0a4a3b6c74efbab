// SPDX-License-Identifier: Apache-2.0
#include "net/policy.h"

#include <algorithm>
#include <array>

namespace msb::net {
namespace {

using proto::NetAction;
using proto::NetDirection;
using proto::NetGroup;
using proto::NetProfile;
using proto::NetProtocol;
using proto::NetRule;
using Target = proto::NetRule::Target;

constexpr std::uint16_t kDnsPort = 53;
constexpr std::uint16_t kDnsOverTlsPort = 853;
constexpr std::uint16_t kHttpsPort = 443;

bool protocol_matches(NetProtocol protocol, const FlowFacts& flow) {
  switch (protocol) {
    case NetProtocol::kAny:
      return true;
    case NetProtocol::kTcp:
      return flow.protocol == FlowProtocol::kTcp;
    case NetProtocol::kUdp:
      return flow.protocol == FlowProtocol::kUdp;
    case NetProtocol::kIcmpv4:
      return flow.protocol == FlowProtocol::kIcmp && flow.address.is_v4();
    case NetProtocol::kIcmpv6:
      return flow.protocol == FlowProtocol::kIcmp && flow.address.is_v6();
  }
  return false;
}

bool port_matches(const NetRule& rule, const FlowFacts& flow) {
  if (flow.protocol == FlowProtocol::kIcmp) return !rule.names_port();
  return rule.covers_port(flow.port);
}

bool group_matches(NetGroup group, AddressClass address_class) {
  switch (group) {
    case NetGroup::kPublic:
      return address_class == AddressClass::kPublic;
    case NetGroup::kPrivate:
      return address_class == AddressClass::kPrivate;
    case NetGroup::kLoopback:
      return address_class == AddressClass::kLoopback;
    case NetGroup::kLinkLocal:
      return address_class == AddressClass::kLinkLocal;
    case NetGroup::kMeta:
      return address_class == AddressClass::kMetadata;
    case NetGroup::kMulticast:
      return address_class == AddressClass::kMulticast;
    case NetGroup::kHost:
      return address_class == AddressClass::kHost;
  }
  return false;
}

bool name_matches(const NetRule& rule, const Hostname& name) {
  return rule.target == Target::kDomain ? name == *rule.name : name.is_under(*rule.name);
}

bool direction_matches(const NetRule& rule, NetDirection direction) {
  return rule.direction == NetDirection::kAny || rule.direction == direction;
}

// Does this allow name a guarded address clearly enough? The caller knows that target, protocol and port
// match.
bool names_guarded(const NetRule& rule, AddressClass address_class) {
  const bool by_group = rule.target == Target::kGroup || rule.target == Target::kDns;
  bool named = by_group;
  if (rule.target == Target::kPrefix) {
    const auto& prefix = rule.prefix;
    named = prefix.is_single() ||
            (address_class == AddressClass::kLoopback && prefix.address.is_v4() && prefix.length >= 8);
  }
  if (!named) return false;
  return address_class == AddressClass::kMetadata || rule.names_port() || rule.target == Target::kDns;
}

constexpr std::array kResolverAddresses{"1.1.1.1",
                                        "1.0.0.1",
                                        "1.1.1.2",
                                        "1.0.0.2",
                                        "1.1.1.3",
                                        "1.0.0.3",
                                        "8.8.8.8",
                                        "8.8.4.4",
                                        "9.9.9.9",
                                        "9.9.9.10",
                                        "9.9.9.11",
                                        "149.112.112.112",
                                        "149.112.112.10",
                                        "149.112.112.11",
                                        "208.67.222.222",
                                        "208.67.220.220",
                                        "94.140.14.14",
                                        "94.140.15.15",
                                        "185.228.168.9",
                                        "185.228.169.9",
                                        "76.76.2.0",
                                        "76.76.10.0",
                                        "193.110.81.0",
                                        "185.253.5.0",
                                        "194.242.2.2",
                                        "2606:4700:4700::1111",
                                        "2606:4700:4700::1001",
                                        "2001:4860:4860::8888",
                                        "2001:4860:4860::8844",
                                        "2620:fe::fe",
                                        "2620:fe::9",
                                        "2620:119:35::35",
                                        "2620:119:53::53",
                                        "2a10:50c0::ad1:ff",
                                        "2a10:50c0::ad2:ff"};
constexpr std::array kResolverNames{"dns.google",
                                    "dns64.dns.google",
                                    "cloudflare-dns.com",
                                    "one.one.one.one",
                                    "1dot1dot1dot1.cloudflare-dns.com",
                                    "dns.quad9.net",
                                    "dns10.quad9.net",
                                    "dns11.quad9.net",
                                    "doh.opendns.com",
                                    "dns.adguard-dns.com",
                                    "dns.adguard.com",
                                    "doh.cleanbrowsing.org",
                                    "dns.nextdns.io",
                                    "dns.controld.com",
                                    "freedns.controld.com",
                                    "doh.dns.sb",
                                    "dns.mullvad.net",
                                    "doh.mullvad.net",
                                    "zero.dns0.eu",
                                    "dns0.eu",
                                    "mozilla.cloudflare-dns.com",
                                    "chrome.cloudflare-dns.com",
                                    "doh.libredns.gr",
                                    "doh.applied-privacy.net"};

}  // namespace

std::string_view flow_protocol_name(FlowProtocol protocol) {
  switch (protocol) {
    case FlowProtocol::kTcp:
      return "tcp";
    case FlowProtocol::kUdp:
      return "udp";
    case FlowProtocol::kIcmp:
      return "icmp";
  }
  return "?";
}

bool is_known_resolver(const IpAddress& address) {
  static const std::vector<IpAddress> known = [] {
    std::vector<IpAddress> out;
    for (const char* text : kResolverAddresses) {
      if (const auto parsed = IpAddress::parse(text)) out.push_back(*parsed);
    }
    std::sort(out.begin(), out.end());
    return out;
  }();
  return std::binary_search(known.begin(), known.end(), address);
}

bool is_known_resolver(const Hostname& name) {
  return std::any_of(kResolverNames.begin(), kResolverNames.end(),
                     [&](const char* known) { return name.text() == known; });
}

Policy Policy::build(const proto::NetPolicySpec& spec) {
  Policy out;
  out.strict_ = spec.strict;
  out.observe_ = spec.observe;
  out.rules_ = spec.rules;
  const auto add = [&](const char* token) {
    auto rule = proto::parse_net_rule(token);
    if (rule) out.rules_.push_back(std::move(rule).value());
  };
  if (spec.default_egress || spec.default_ingress) {
    out.default_egress_ = spec.default_egress.value_or(NetAction::kDeny);
    out.default_ingress_ = spec.default_ingress.value_or(NetAction::kAllow);
  } else {
    std::vector<NetProfile> profiles = spec.profiles;
    if (profiles.empty()) profiles.push_back(NetProfile::kPublic);
    std::sort(profiles.begin(), profiles.end());
    if (profiles[0] == NetProfile::kAll) {
      out.default_egress_ = NetAction::kAllow;
    } else if (profiles[0] == NetProfile::kNone) {
      out.default_ingress_ = NetAction::kDeny;
    } else {
      add("allow@dns");
      for (const NetProfile profile : profiles) {
        if (profile == NetProfile::kPublic) add("allow@public");
        if (profile == NetProfile::kPrivate) add("allow@private");
        if (profile == NetProfile::kHost) add("allow@host");
      }
    }
  }
  for (const NetRule& rule : out.rules_) {
    if (rule.by_name()) out.has_name_rules_ = true;
    const bool opens_host = rule.action == NetAction::kAllow && rule.direction != NetDirection::kIngress &&
                            rule.target == Target::kGroup &&
                            (rule.group == NetGroup::kHost || rule.group == NetGroup::kLoopback);
    const bool icmp = rule.protocol == NetProtocol::kIcmpv4 || rule.protocol == NetProtocol::kIcmpv6;
    if (opens_host && !rule.names_port() && !icmp) {
      out.warnings_.push_back("rule \"" + rule.text +
                              "\" opens nothing on the host: name the port, as in allow@host:tcp:5432");
    }
  }
  return out;
}

std::string Policy::rule_text(int rule) const {
  if (rule < 0 || static_cast<std::size_t>(rule) >= rules_.size()) return "default";
  return rules_[static_cast<std::size_t>(rule)].text;
}

Decision Policy::decide(const FlowFacts& flow, AddressClass address_class, NetDirection direction,
                        const AddressClassifier& classifier) const {
  const bool egress = direction == NetDirection::kEgress;
  const bool guarded = egress && is_guarded(address_class);
  const bool encrypted_dns = egress && has_name_rules_ && flow.port == kDnsOverTlsPort;
  const bool others_resolver =
      egress && has_name_rules_ && flow.port == kHttpsPort &&
      (is_known_resolver(flow.address) || (flow.shown_name && is_known_resolver(*flow.shown_name)));
  // A denying name rule that only the flow's own name can settle: the outcome if it does not match.
  bool ask = false;
  int ask_rule = -1;
  const char* note = nullptr;
  const auto settle = [&](Decision decision) {
    if (decision.verdict == Verdict::kAllow && ask)
      return Decision{Verdict::kAskName, ask_rule, "the name has to be seen first"};
    return decision;
  };
  for (std::size_t i = 0; i < rules_.size(); ++i) {
    const NetRule& rule = rules_[i];
    const int index = static_cast<int>(i);
    if (!direction_matches(rule, direction) || !protocol_matches(rule.protocol, flow) ||
        !port_matches(rule, flow))
      continue;
    const bool allow = rule.action == NetAction::kAllow;
    if (rule.by_name()) {
      if (!egress) continue;
      const bool bound = std::any_of(flow.bound_names.begin(), flow.bound_names.end(),
                                     [&](const Hostname& name) { return name_matches(rule, name); });
      const bool shown =
          flow.evidence == NameEvidence::kName && flow.shown_name && name_matches(rule, *flow.shown_name);
      if (allow) {
        if (guarded || !bound) continue;
        switch (flow.evidence) {
          case NameEvidence::kPending:
            return {Verdict::kAskName, index, "the name has to be seen first"};
          case NameEvidence::kName:
            if (shown) return settle({Verdict::kAllow, index, "name confirmed"});
            note = "the address belongs to an allowed name, but the flow is for another";
            break;
          case NameEvidence::kAmbiguous:
            note = "the name in the first bytes is split, encrypted or malformed";
            break;
          case NameEvidence::kNone:
          case NameEvidence::kOpaque:
          case NameEvidence::kNever:
            if (!strict_) return settle({Verdict::kAllow, index, "address handed out for this name"});
            note = "strict: the name cannot be confirmed on this flow";
            break;
        }
        continue;
      }
      switch (flow.evidence) {
        case NameEvidence::kPending:
          if (bound && flow.bound_names.size() == 1) return {Verdict::kDeny, index, "denied name"};
          ask = true;
          ask_rule = index;
          break;
        case NameEvidence::kName:
          if (shown) return {Verdict::kDeny, index, "denied name"};
          break;
        case NameEvidence::kNone:
        case NameEvidence::kAmbiguous:
          if (bound || strict_) return {Verdict::kDeny, index, "a denied name cannot be excluded"};
          break;
        case NameEvidence::kOpaque:
        case NameEvidence::kNever:
          if (bound) return {Verdict::kDeny, index, "address of a denied name"};
          break;
      }
      continue;
    }
    bool matches = false;
    switch (rule.target) {
      case Target::kAny:
        matches = true;
        break;
      case Target::kDns:
        matches = address_class == AddressClass::kHost && classifier.is_gateway(flow.address) &&
                  flow.port == kDnsPort && flow.protocol != FlowProtocol::kIcmp;
        break;
      case Target::kGroup:
        matches = group_matches(rule.group, address_class);
        break;
      case Target::kPrefix:
        matches = rule.prefix.contains(flow.address);
        break;
      case Target::kDomain:
      case Target::kSuffix:
        break;
    }
    if (!matches) continue;
    if (!allow) return {Verdict::kDeny, index, "denied by rule"};
    if (guarded && !names_guarded(rule, address_class)) {
      const bool icmp_to_gateway = flow.protocol == FlowProtocol::kIcmp && rule.target == Target::kGroup;
      if (!icmp_to_gateway) {
        note = rule.target == Target::kGroup
                   ? "the rule has to name the port"
                   : "host, loopback and metadata addresses need a rule that names them";
        continue;
      }
    }
    if (encrypted_dns && !(rule.names_port() && rule.first_port == rule.last_port)) {
      note = "DNS over TLS around the sandbox's resolver needs a rule that names port 853";
      continue;
    }
    if (others_resolver && !(rule.target == Target::kPrefix && rule.prefix.is_single())) {
      note = "DNS over HTTPS around the sandbox's resolver needs a rule that names it";
      continue;
    }
    return settle({Verdict::kAllow, index, "allowed by rule"});
  }
  const NetAction fallback = egress ? default_egress_ : default_ingress_;
  if (fallback == NetAction::kDeny) return {Verdict::kDeny, -1, note != nullptr ? note : "no rule allows it"};
  if (guarded)
    return {Verdict::kDeny, -1,
            note != nullptr ? note : "host, loopback and metadata addresses need a rule that names them"};
  if (address_class == AddressClass::kUnspecified)
    return {Verdict::kDeny, -1, "the unspecified address is no destination"};
  if (encrypted_dns || others_resolver)
    return {Verdict::kDeny, -1, note != nullptr ? note : "another resolver needs a rule that names it"};
  return settle({Verdict::kAllow, -1, "allowed by default"});
}

Decision Policy::judge_egress(const FlowFacts& flow, const AddressClassifier& classifier) const {
  FlowFacts facts = flow;
  facts.address = unmap(flow.address);
  return decide(facts, classifier.classify(flow.address), NetDirection::kEgress, classifier);
}

Decision Policy::judge_ingress(const FlowFacts& flow, const AddressClassifier& classifier) const {
  FlowFacts facts = flow;
  facts.address = unmap(flow.address);
  return decide(facts, classifier.classify(flow.address), NetDirection::kIngress, classifier);
}

Decision Policy::judge_lookup(const Hostname& name) const {
  // A name is worth resolving only if some rule could let the guest use the answer: a name rule that matches,
  // or an allow by address or default. "allow@dns" opens the resolver, not every name: it alone would be a
  // way out.
  for (std::size_t i = 0; i < rules_.size(); ++i) {
    const NetRule& rule = rules_[i];
    if (rule.direction == NetDirection::kIngress) continue;
    const int index = static_cast<int>(i);
    if (rule.by_name()) {
      if (!name_matches(rule, name)) continue;
      // A denial for some ports only is for the connection to settle.
      if (rule.action == NetAction::kDeny && (rule.names_port() || rule.protocol != NetProtocol::kAny))
        continue;
      return {rule.action == NetAction::kAllow ? Verdict::kAllow : Verdict::kDeny, index, "by name"};
    }
    if (rule.action == NetAction::kDeny) {
      const bool dns_itself = rule.target == Target::kDns ||
                              (rule.target == Target::kAny && rule.covers_port(kDnsPort) &&
                               (rule.protocol == NetProtocol::kAny || rule.protocol == NetProtocol::kUdp));
      if (dns_itself) return {Verdict::kDeny, index, "denied by rule"};
      continue;
    }
    const bool to_others =
        rule.target == Target::kAny || rule.target == Target::kPrefix ||
        (rule.target == Target::kGroup && rule.group != NetGroup::kHost && rule.group != NetGroup::kLoopback);
    if (to_others) return {Verdict::kAllow, index, "addresses are allowed by rule"};
  }
  if (default_egress_ == NetAction::kAllow) return {Verdict::kAllow, -1, "allowed by default"};
  return {Verdict::kDeny, -1, "no rule allows this name"};
}

bool Policy::answer_allowed(const Hostname& name, const IpAddress& address,
                            const AddressClassifier& classifier) const {
  const AddressClass address_class = classifier.classify(address);
  if (address_class == AddressClass::kPublic) return true;
  // A forbidden range: tolerated only where the first rule about the address itself, whatever its port, lets
  // the guest go there anyway.
  const IpAddress plain = unmap(address);
  (void)name;
  for (const NetRule& rule : rules_) {
    if (rule.direction == NetDirection::kIngress || rule.by_name() || rule.target == Target::kDns) continue;
    const bool matches = rule.target == Target::kAny ||
                         (rule.target == Target::kGroup && group_matches(rule.group, address_class)) ||
                         (rule.target == Target::kPrefix && rule.prefix.contains(plain));
    if (!matches) continue;
    if (rule.action == NetAction::kDeny) {
      if (rule.names_port() || rule.protocol != NetProtocol::kAny) continue;
      return false;
    }
    if (is_guarded(address_class) && !names_guarded(rule, address_class)) continue;
    return true;
  }
  return default_egress_ == NetAction::kAllow && !is_guarded(address_class) &&
         address_class != AddressClass::kUnspecified;
}

}  // namespace msb::net
