// SPDX-License-Identifier: Apache-2.0
#include "net/engine.h"

#include <algorithm>

#include "base/json.h"

namespace msb::net {
namespace {

constexpr std::size_t kMaxObserved = 4096;

const char* verdict_name(Verdict verdict) {
  switch (verdict) {
    case Verdict::kAllow:
      return "allow";
    case Verdict::kDeny:
      return "deny";
    case Verdict::kAskName:
      return "ask_name";
  }
  return "?";
}

}  // namespace

void NameTable::make_room(Instant now) {
  for (auto it = by_address_.begin(); it != by_address_.end();) {
    std::erase_if(it->second, [&](const Binding& binding) { return binding.until <= now; });
    it = it->second.empty() ? by_address_.erase(it) : std::next(it);
  }
  if (by_address_.size() < kMaxAddresses) return;
  // Still full of live ones: the address whose bindings end first goes.
  auto oldest = by_address_.begin();
  const auto end_of = [](const std::vector<Binding>& bindings) {
    Instant latest{};
    for (const Binding& binding : bindings) latest = std::max(latest, binding.until);
    return latest;
  };
  for (auto it = by_address_.begin(); it != by_address_.end(); ++it) {
    if (end_of(it->second) < end_of(oldest->second)) oldest = it;
  }
  by_address_.erase(oldest);
}

void NameTable::bind(const Hostname& name, const IpAddress& address, Duration life, Instant now) {
  const Instant until = now + std::clamp<Duration>(life, kMinLife, kMaxLife);
  if (!by_address_.contains(address) && by_address_.size() >= kMaxAddresses) make_room(now);
  auto& bindings = by_address_[address];
  std::erase_if(bindings,
                [&](const Binding& binding) { return binding.until <= now && binding.name != name; });
  for (Binding& binding : bindings) {
    if (binding.name == name) {
      binding.until = std::max(binding.until, until);
      return;
    }
  }
  if (bindings.size() >= kMaxNamesPerAddress) bindings.erase(bindings.begin());
  bindings.push_back({name, until});
}

std::vector<Hostname> NameTable::names_of(const IpAddress& address, Instant now) const {
  std::vector<Hostname> out;
  const auto it = by_address_.find(address);
  if (it == by_address_.end()) return out;
  for (const Binding& binding : it->second) {
    if (binding.until > now) out.push_back(binding.name);
  }
  return out;
}

void Engine::replace_policy(Policy policy) {
  policy_ = std::move(policy);
  reset_counters();
}

void Engine::judge(FlowRecord& flow) {
  FlowFacts facts;
  facts.protocol = flow.protocol;
  facts.address = flow.remote;
  facts.port = flow.ingress ? flow.guest_port : flow.remote_port;
  facts.bound_names = flow.names;
  facts.evidence = flow.evidence;
  facts.shown_name = flow.shown_name;
  flow.decision =
      flow.ingress ? policy_.judge_ingress(facts, classifier_) : policy_.judge_egress(facts, classifier_);
  if (!policy_.observe() || flow.ingress || flow.decision.verdict == Verdict::kAllow) return;
  const AddressClass address_class = classifier_.classify(flow.remote);
  if (is_guarded(address_class) || address_class == AddressClass::kUnspecified) return;
  // Observing: wait for the name where one may come, then let it pass and remember what would have been
  // needed.
  if (flow.evidence == NameEvidence::kPending && !flow.names.empty()) {
    flow.decision = {Verdict::kAskName, flow.decision.rule, "observing"};
    return;
  }
  flow.decision = {Verdict::kAllow, flow.decision.rule, "observing: no rule allows it yet"};
}

void Engine::observe(const FlowRecord& flow) {
  if (!policy_.observe() || flow.ingress || observed_.size() >= kMaxObserved) return;
  std::string token = "allow@";
  if (flow.shown_name)
    token += flow.shown_name->labels() < 2 ? "domain=" + flow.shown_name->text() : flow.shown_name->text();
  else if (flow.remote.is_v6())
    token += "[" + flow.remote.text() + "]";
  else
    token += flow.remote.text();
  if (flow.protocol == FlowProtocol::kIcmp)
    token += flow.remote.is_v4() ? ":icmpv4" : ":icmpv6";
  else
    token += ":" + std::string(flow_protocol_name(flow.protocol)) + ":" + std::to_string(flow.remote_port);
  observed_.insert(std::move(token));
}

std::vector<std::string> Engine::observed() const { return {observed_.begin(), observed_.end()}; }

void Engine::count(const Decision& decision) {
  const std::size_t index =
      decision.rule < 0 ? rule_counts_.size() - 1 : static_cast<std::size_t>(decision.rule);
  if (index >= rule_counts_.size()) return;
  if (decision.verdict == Verdict::kDeny)
    ++rule_counts_[index].denied;
  else
    ++rule_counts_[index].allowed;
}

void Engine::open(FlowRecord& flow, Instant now) {
  flow.id = next_id_++;
  flow.opened = now;
  if (!flow.ingress) flow.names = names_.names_of(unmap(flow.remote), now);
  judge(flow);
}

void Engine::rejudge(FlowRecord& flow) { judge(flow); }

void Engine::note_allowed(const FlowRecord& flow) {
  count(flow.decision);
  observe(flow);
  audit_flow("open", flow, nullptr, std::nullopt);
}
void Engine::note_denied(const FlowRecord& flow) {
  count(flow.decision);
  audit_flow("deny", flow, nullptr, std::nullopt);
}
void Engine::note_closed(const FlowRecord& flow, Instant now, const char* how) {
  audit_flow("close", flow, how, now);
}

void Engine::audit_flow(const char* event, const FlowRecord& flow, const char* how,
                        std::optional<Instant> now) {
  if (!audit_) return;
  JsonWriter out;
  out.begin_object().field("time", audit_->now()).field("event", event).field("flow", flow.id);
  out.field("protocol", flow_protocol_name(flow.protocol))
      .field("direction", flow.ingress ? "ingress" : "egress");
  out.field("address", flow.remote.text())
      .field("port", flow.remote_port)
      .field("guest_port", flow.guest_port);
  if (flow.shown_name)
    out.field("name", flow.shown_name->text());
  else if (!flow.names.empty())
    out.field("name", flow.names.back().text());
  out.field("verdict", verdict_name(flow.decision.verdict))
      .field("rule", policy_.rule_text(flow.decision.rule));
  out.field("rule_index", flow.decision.rule).field("reason", flow.decision.reason);
  if (now) {
    out.field("bytes_out", flow.bytes_from_guest).field("bytes_in", flow.bytes_to_guest);
    out.field("ms", (*now - flow.opened).count() / 1'000'000).field("how", how);
  }
  out.end_object();
  audit_->append(std::move(out).take());
}

void Engine::note_lookup(const std::string& name, std::uint16_t type, const Decision& decision,
                         const char* result) {
  count(decision);
  if (!audit_) return;
  JsonWriter out;
  out.begin_object()
      .field("time", audit_->now())
      .field("event", "lookup")
      .field("name", name)
      .field("type", type);
  out.field("verdict", verdict_name(decision.verdict)).field("rule", policy_.rule_text(decision.rule));
  out.field("reason", decision.reason).field("result", result).end_object();
  audit_->append(std::move(out).take());
}

void Engine::note_event(const char* event, const std::string& text) {
  if (!audit_) return;
  JsonWriter out;
  out.begin_object().field("time", audit_->now()).field("event", event).field("text", text).end_object();
  audit_->append(std::move(out).take());
}

}  // namespace msb::net
