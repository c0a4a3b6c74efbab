// SPDX-License-Identifier: Apache-2.0
// The policy: ordered rules to a verdict. Pure and complete before the first frame; replaced as a whole.
//
// Rules are tried in order, the first that matches decides, then the direction's default. Beyond that:
//  - Guarded addresses (host, loopback, metadata) are reached only through an allow that names them: their
//  group, or
//    a prefix lying wholly inside what they are; host and loopback need a port in that rule too. No "any", no
//    default and no name opens them.
//  - A name rule matches an address that the proxy's own resolver handed to this guest for that name, and, in
//  strict
//    mode, only once the flow itself has shown that name (TLS SNI, HTTP Host). Until it has, the verdict is
//    kAskName: dial, but let nothing of the guest's through.
//  - Under name rules, resolvers of others (port 853, known DNS-over-HTTPS addresses) need a rule that names
//  them.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/hostname.h"
#include "base/ip_address.h"
#include "net/address_class.h"
#include "proto/net_spec.h"

namespace msb::net {

enum class FlowProtocol : std::uint8_t { kTcp, kUdp, kIcmp };
[[nodiscard]] std::string_view flow_protocol_name(FlowProtocol protocol);

// What the first bytes of a flow have shown.
enum class NameEvidence : std::uint8_t {
  kPending,    // nothing yet, but it can still come (TCP)
  kNever,      // this kind of flow shows no name (UDP, ICMP)
  kName,       // exactly one, in FlowFacts::shown_name
  kNone,       // TLS or HTTP without a name
  kOpaque,     // neither TLS nor HTTP
  kAmbiguous,  // split, encrypted, contradictory or malformed
};

struct FlowFacts {
  FlowProtocol protocol = FlowProtocol::kTcp;
  IpAddress address;                      // egress: the destination; ingress: the peer
  std::uint16_t port = 0;                 // service port; 0 for ICMP
  std::span<const Hostname> bound_names;  // names under which the proxy gave this address to the guest
  NameEvidence evidence = NameEvidence::kPending;
  std::optional<Hostname> shown_name;
};

enum class Verdict : std::uint8_t { kAllow, kDeny, kAskName };

struct Decision {
  Verdict verdict = Verdict::kDeny;
  int rule = -1;            // index into rules(), -1: the default or no rule
  const char* reason = "";  // static text for people and the audit stream
};

class Policy {
 public:
  // Makes the rule list that `spec` stands for. Warnings say what a rule cannot do as it is written.
  [[nodiscard]] static Policy build(const proto::NetPolicySpec& spec);

  [[nodiscard]] Decision judge_egress(const FlowFacts& flow, const AddressClassifier& classifier) const;
  [[nodiscard]] Decision judge_ingress(const FlowFacts& flow, const AddressClassifier& classifier) const;
  // May the guest look this name up?
  [[nodiscard]] Decision judge_lookup(const Hostname& name) const;
  // May an answer for `name` point here? No for what the guest could not be allowed to reach at this address.
  [[nodiscard]] bool answer_allowed(const Hostname& name, const IpAddress& address,
                                    const AddressClassifier& classifier) const;

  [[nodiscard]] const std::vector<proto::NetRule>& rules() const { return rules_; }
  [[nodiscard]] bool has_name_rules() const { return has_name_rules_; }
  [[nodiscard]] bool strict() const { return strict_; }
  [[nodiscard]] bool observe() const { return observe_; }
  [[nodiscard]] const std::vector<std::string>& warnings() const { return warnings_; }
  // "rule 3: deny@meta" or "default".
  [[nodiscard]] std::string rule_text(int rule) const;

 private:
  [[nodiscard]] Decision decide(const FlowFacts& flow, AddressClass address_class,
                                proto::NetDirection direction, const AddressClassifier& classifier) const;
  std::vector<proto::NetRule> rules_;
  proto::NetAction default_egress_ = proto::NetAction::kDeny;
  proto::NetAction default_ingress_ = proto::NetAction::kAllow;
  bool strict_ = true;
  bool observe_ = false;
  bool has_name_rules_ = false;
  std::vector<std::string> warnings_;
};

// Addresses and names of public DNS-over-HTTPS services, for the rule about others' resolvers.
[[nodiscard]] bool is_known_resolver(const IpAddress& address);
[[nodiscard]] bool is_known_resolver(const Hostname& name);

}  // namespace msb::net
