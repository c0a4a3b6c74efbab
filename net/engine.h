// SPDX-License-Identifier: Apache-2.0
// What every service asks: may this flow be, under which names is this address known, and who writes it down.
//
// The engine owns the current policy, the classifier, the table of names handed to the guest, the audit
// stream, the counters per rule and, in observe mode, the list of what the run needed.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/clock.h"
#include "base/hostname.h"
#include "net/address_class.h"
#include "net/audit_log.h"
#include "net/policy.h"

namespace msb::net {

// Names bound to addresses, as this sandbox's own resolver handed them to its guest. Bounded; a binding lives
// as long as the answer's TTL, within kMinLife..kMaxLife.
class NameTable {
 public:
  static constexpr std::size_t kMaxAddresses = 16384;
  static constexpr std::size_t kMaxNamesPerAddress = 32;
  static constexpr Duration kMinLife = std::chrono::seconds(30);
  static constexpr Duration kMaxLife = std::chrono::hours(1);
  void bind(const Hostname& name, const IpAddress& address, Duration life, Instant now);
  [[nodiscard]] std::vector<Hostname> names_of(const IpAddress& address, Instant now) const;
  [[nodiscard]] std::size_t size() const { return by_address_.size(); }
  void clear() { by_address_.clear(); }

 private:
  struct Binding {
    Hostname name;
    Instant until;
  };
  void make_room(Instant now);
  std::map<IpAddress, std::vector<Binding>> by_address_;
};

// One flow as policy and audit see it. Owned by the service that carries it.
struct FlowRecord {
  std::uint64_t id = 0;
  FlowProtocol protocol = FlowProtocol::kTcp;
  bool ingress = false;
  IpAddress remote;  // egress: destination; ingress: the client
  std::uint16_t remote_port = 0;
  std::uint16_t guest_port = 0;
  std::vector<Hostname> names;
  NameEvidence evidence = NameEvidence::kPending;
  std::optional<Hostname> shown_name;
  Decision decision;
  std::uint64_t bytes_from_guest = 0;
  std::uint64_t bytes_to_guest = 0;
  Instant opened;
};

class Engine {
 public:
  Engine(Policy policy, AddressClassifier classifier)
      : policy_(std::move(policy)), classifier_(std::move(classifier)) {
    reset_counters();
  }

  [[nodiscard]] const Policy& policy() const { return policy_; }
  [[nodiscard]] AddressClassifier& classifier() { return classifier_; }
  [[nodiscard]] NameTable& names() { return names_; }
  // Takes effect for every judgement from now on; the services then re-judge what is open.
  void replace_policy(Policy policy);

  // Fills in what is known about a new flow and judges it; a denial is written to the audit stream.
  void open(FlowRecord& flow, Instant now);
  // Judges again, after new evidence or a new policy.
  void rejudge(FlowRecord& flow);
  // Audit of what happened to a flow the engine had let pass.
  void note_allowed(const FlowRecord& flow);
  void note_denied(const FlowRecord& flow);
  void note_closed(const FlowRecord& flow, Instant now, const char* how);
  void note_lookup(const std::string& name, std::uint16_t type, const Decision& decision, const char* result);
  void note_event(const char* event, const std::string& text);

  // True once the byte budget is used up; every service then ends its flows.
  [[nodiscard]] bool charge_bytes(std::uint64_t count) {
    total_bytes_ += count;
    return max_total_bytes_ != 0 && total_bytes_ > max_total_bytes_;
  }
  [[nodiscard]] bool budget_spent() const { return max_total_bytes_ != 0 && total_bytes_ > max_total_bytes_; }
  void set_max_total_bytes(std::uint64_t bytes) { max_total_bytes_ = bytes; }
  [[nodiscard]] std::uint64_t total_bytes() const { return total_bytes_; }
  [[nodiscard]] bool flow_opened(std::uint32_t max_flows) {
    if (open_flows_ >= max_flows) return false;
    ++open_flows_;
    return true;
  }
  void flow_closed() { --open_flows_; }
  [[nodiscard]] std::uint32_t open_flows() const { return open_flows_; }

  // JSON lines go here; without it nothing is written down.
  void set_audit(std::unique_ptr<AuditLog> audit) { audit_ = std::move(audit); }
  void flush_audit() {
    if (audit_) audit_->flush();
  }
  // The allow-list that observe mode has gathered, as rule tokens.
  [[nodiscard]] std::vector<std::string> observed() const;
  struct RuleCount {
    std::uint64_t allowed = 0;
    std::uint64_t denied = 0;
  };
  // One per rule; the last is the default's.
  [[nodiscard]] const std::vector<RuleCount>& rule_counts() const { return rule_counts_; }
  [[nodiscard]] std::uint64_t audit_lost() const { return audit_ ? audit_->lost() : 0; }

 private:
  void judge(FlowRecord& flow);
  void reset_counters() { rule_counts_.assign(policy_.rules().size() + 1, {}); }
  void count(const Decision& decision);
  void observe(const FlowRecord& flow);
  void audit_flow(const char* event, const FlowRecord& flow, const char* how, std::optional<Instant> now);

  Policy policy_;
  AddressClassifier classifier_;
  NameTable names_;
  std::unique_ptr<AuditLog> audit_;
  std::uint64_t next_id_ = 1;
  std::uint64_t total_bytes_ = 0;
  std::uint64_t max_total_bytes_ = 0;
  std::uint32_t open_flows_ = 0;
  std::vector<RuleCount> rule_counts_;
  std::set<std::string> observed_;
};

}  // namespace msb::net
