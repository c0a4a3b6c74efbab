// SPDX-License-Identifier: Apache-2.0
// The rule language of the network policy: text to value and back. What a rule means is decided in msb-net.
//
//   rules  := token { "," token }
//   token  := action [ ":" direction ] "@" target [ ":" proto [ ":" ports ] ]
//   action := allow | deny        direction := egress | ingress | any   (default egress)
//   proto  := any | tcp | udp | icmpv4 | icmpv6   (default any)        ports := any | N | LO-HI
//   target := any | dns | group | ipv4 | ipv4/len | [ipv6] | [ipv6/len] | name | domain=name | *.name |
//   suffix=name group  := public | private | loopback | link-local | meta | multicast | host
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/hostname.h"
#include "base/ip_address.h"
#include "base/result.h"

namespace msb::proto {

enum class NetAction : std::uint8_t { kAllow, kDeny };
enum class NetDirection : std::uint8_t { kEgress, kIngress, kAny };
enum class NetProtocol : std::uint8_t { kAny, kTcp, kUdp, kIcmpv4, kIcmpv6 };
enum class NetGroup : std::uint8_t { kPublic, kPrivate, kLoopback, kLinkLocal, kMeta, kMulticast, kHost };

struct NetRule {
  // kDns: the sandbox's own resolver: egress to the host group, port 53, UDP and TCP.
  enum class Target : std::uint8_t { kAny, kDns, kGroup, kPrefix, kDomain, kSuffix };

  NetAction action = NetAction::kDeny;
  NetDirection direction = NetDirection::kEgress;
  Target target = Target::kAny;
  NetGroup group = NetGroup::kPublic;  // for kGroup
  IpPrefix prefix;                     // for kPrefix
  std::optional<Hostname> name;        // for kDomain and kSuffix
  NetProtocol protocol = NetProtocol::kAny;
  // Service port: the destination's on the way out, the guest's on the way in. nullopt: any.
  std::optional<std::uint16_t> first_port;
  std::uint16_t last_port = 0;  // >= *first_port; meaningful with first_port
  std::string text;             // as it was given

  [[nodiscard]] bool names_port() const { return first_port.has_value(); }
  [[nodiscard]] bool covers_port(std::uint16_t port) const {
    return !first_port || (port >= *first_port && port <= last_port);
  }
  [[nodiscard]] bool by_name() const { return target == Target::kDomain || target == Target::kSuffix; }
};

// One token. kInvalid names what is wrong and, for a misspelt word, the likely one.
[[nodiscard]] Result<NetRule> parse_net_rule(std::string_view token);
// Tokens joined by commas, in order; blanks around a token are dropped. At most kMaxNetRules.
inline constexpr std::size_t kMaxNetRules = 4096;
[[nodiscard]] Result<std::vector<NetRule>> parse_net_rules(std::string_view tokens);

[[nodiscard]] std::string_view net_group_name(NetGroup group);
[[nodiscard]] std::string_view net_protocol_name(NetProtocol protocol);
[[nodiscard]] std::string_view net_action_name(NetAction action);

}  // namespace msb::proto
