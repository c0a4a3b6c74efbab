// SPDX-License-Identifier: Apache-2.0
#include "net/tcp_service.h"

#include <algorithm>

#include "net/host_socket.h"
#include "net/tcp_flow.h"

namespace msb::net {
namespace {
constexpr std::uint16_t kDnsPort = 53;
constexpr std::uint16_t kEphemeralFirst = 49152;
constexpr int kPortTries = 64;

// A keyed mix (two rounds of multiply and fold): the guest chooses ports and addresses, so it must not be
// able to choose collisions.
std::uint64_t mix(std::uint64_t value, std::uint64_t secret) {
  std::uint64_t out = (value ^ secret) * 0x9e3779b97f4a7c15U;
  out ^= out >> 32;
  out *= secret | 1;
  return out ^ (out >> 29);
}
}  // namespace

std::size_t TcpService::Hash::operator()(const Key& key) const {
  std::uint64_t high = 0;
  std::uint64_t low = 0;
  for (std::size_t i = 0; i < 8; ++i) {
    high = high << 8 | key.remote.raw()[i];
    low = low << 8 | key.remote.raw()[i + 8];
  }
  std::uint64_t out = mix(high, secret);
  out = mix(out ^ low, secret + 0x9e3779b97f4a7c15U);
  return static_cast<std::size_t>(
      mix(out ^ (static_cast<std::uint64_t>(key.remote_port) << 16 | key.guest_port), secret));
}

TcpService::TcpService(EventLoop& loop, GuestLink& link, Engine& engine, DnsProxy& dns, RandomSource& random,
                       const proto::NetSpec& spec, std::string proxy_password)
    : loop_(loop),
      link_(link),
      engine_(engine),
      dns_(dns),
      random_(random),
      max_flows_(spec.limits.max_connections != 0 ? spec.limits.max_connections : proto::kNetDefaultFlows),
      flows_(16, Hash{random.next()}) {
  budget_.limit = spec.limits.buffer_bytes;
  if (spec.proxy) proxy_ = UpstreamProxy{*spec.proxy, std::move(proxy_password)};
}

TcpService::~TcpService() { loop_.cancel_timer(timer_); }

std::uint32_t TcpService::initial_sequence(const Key& key) {
  // RFC 6528: a keyed hash of the connection plus a clock of four microseconds.
  return static_cast<std::uint32_t>(Hash{flows_.hash_function().secret ^ 0x5bd1e995}(key)) +
         static_cast<std::uint32_t>(loop_.now().ns / 4000);
}

void TcpService::send_reset(const IpPacket& packet, const TcpSegment& segment) {
  if (const auto answer = reset_for(segment))
    link_.send_tcp(packet.destination, segment.destination_port, packet.source, segment.source_port, *answer);
}

void TcpService::on_packet(const IpPacket& packet, Checksum checksum) {
  TcpSegment segment;
  if (const Drop drop = parse_tcp(packet, checksum, segment); drop != Drop::kNone) return link_.drop(drop);
  const Key key{packet.destination, segment.destination_port, segment.source_port};
  const auto it = flows_.find(key);
  if (it != flows_.end() && !it->second->dead()) {
    it->second->on_segment(segment);
    it->second->settle();
    return;
  }
  if (it != flows_.end()) reap();
  if (!segment.has(kTcpSyn) || segment.has(kTcpAck)) {
    link_.drop(Drop::kNoFlow);
    return send_reset(packet, segment);
  }
  open_outbound(packet, segment, key);
}

void TcpService::open_outbound(const IpPacket& packet, const TcpSegment& segment, const Key& key) {
  const bool gateway = engine_.classifier().is_gateway(packet.destination);
  const bool dns = segment.destination_port == kDnsPort && (gateway || engine_.policy().has_name_rules());
  FlowRecord record;
  record.protocol = FlowProtocol::kTcp;
  record.remote = packet.destination;
  record.remote_port = segment.destination_port;
  record.guest_port = segment.source_port;
  if (!dns) {
    engine_.open(record, loop_.now());
    if (record.decision.verdict == Verdict::kDeny) {
      ++counters_.denied;
      engine_.note_denied(record);
      link_.drop(Drop::kDenied);
      return send_reset(packet, segment);
    }
  }
  if (engine_.budget_spent() || !engine_.flow_opened(max_flows_)) {
    link_.drop(Drop::kLimit);
    return send_reset(packet, segment);
  }
  auto owned = std::make_unique<TcpFlow>(*this, key, dns ? TcpFlow::Kind::kDns : TcpFlow::Kind::kOutbound,
                                         std::move(record), segment, initial_sequence(key));
  TcpFlow& flow = *owned;
  flows_.emplace(key, std::move(owned));
  if (dns) {
    flow.start_dns();
  } else if (gateway) {
    // The gateway stands for this host's own loopback; the policy has asked for a rule that names the port.
    flow.dial(packet.destination.is_v4() ? IpAddress::v4(0x7f000001) : *IpAddress::parse("::1"),
              segment.destination_port);
  } else {
    flow.dial(unmap(packet.destination), segment.destination_port);
  }
  flow.settle();
}

void TcpService::accept_inbound(UniqueFd client, const IpAddress& peer, std::uint16_t peer_port,
                                std::uint16_t guest_port) {
  FlowRecord record;
  record.protocol = FlowProtocol::kTcp;
  record.ingress = true;
  record.remote = peer;
  record.remote_port = peer_port;
  record.guest_port = guest_port;
  record.evidence = NameEvidence::kNever;
  engine_.open(record, loop_.now());
  if (record.decision.verdict == Verdict::kDeny) {
    ++counters_.denied;
    engine_.note_denied(record);
    return make_abortive(client.get());
  }
  // The guest sees the client's own address where the link can carry it back, otherwise the gateway's.
  Key key{peer, peer_port, guest_port};
  const AddressClass peer_class = engine_.classifier().classify(peer);
  const bool has_family = !link_.guest_address(peer.family()).is_unspecified();
  if (!has_family || is_guarded(peer_class) || peer == link_.guest_address(peer.family()) ||
      flows_.contains(key)) {
    const bool v4 = !link_.guest_address(IpAddress::Family::kV4).is_unspecified();
    key.remote =
        link_.gateway(v4 && (peer.is_v4() || link_.guest_address(IpAddress::Family::kV6).is_unspecified())
                          ? IpAddress::Family::kV4
                          : IpAddress::Family::kV6);
    for (int i = 0; i < kPortTries; ++i) {
      key.remote_port =
          static_cast<std::uint16_t>(kEphemeralFirst + random_.next() % (65536 - kEphemeralFirst));
      if (!flows_.contains(key)) break;
    }
  }
  if (flows_.contains(key) || engine_.budget_spent() || !engine_.flow_opened(max_flows_))
    return make_abortive(client.get());
  ++counters_.accepted;
  auto owned =
      std::make_unique<TcpFlow>(*this, key, std::move(client), std::move(record), initial_sequence(key));
  TcpFlow& flow = *owned;
  flows_.emplace(key, std::move(owned));
  flow.start_inbound();
  flow.settle();
  link_.flush();
}

void TcpService::end_batch() {
  std::vector<TcpFlow*> acks;
  acks.swap(acks_);
  for (TcpFlow* flow : acks) {
    flow->in_acks = false;
    if (!flow->dead()) flow->end_batch();
  }
  acks.clear();
  if (acks_.empty()) acks_.swap(acks);  // keep the allocation
  reap();
}

void TcpService::on_link_writable() {
  std::vector<TcpFlow*> waiting;
  waiting.swap(waiting_);
  for (std::size_t i = 0; i < waiting.size(); ++i) {
    waiting[i]->in_waiting = false;
    if (waiting[i]->dead()) continue;
    if (!link_.can_send()) {
      waiting[i]->in_waiting = true;
      waiting_.push_back(waiting[i]);
      continue;
    }
    waiting[i]->on_link_writable();
    waiting[i]->settle();
  }
  link_.flush();
  reap();
}

void TcpService::rejudge_all() {
  for (auto& [key, flow] : flows_) flow->rejudge();
  link_.flush();
  reap();
}

void TcpService::reset_all(const char* why) {
  for (auto& [key, flow] : flows_) flow->kill(why);
  link_.flush();
  reap();
}

void TcpService::reap() {
  while (!ended_.empty()) {
    const Key key = ended_.back();
    ended_.pop_back();
    const auto it = flows_.find(key);
    if (it == flows_.end() || !it->second->dead()) continue;
    TcpFlow* flow = it->second.get();
    if (flow->in_acks) std::erase(acks_, flow);
    if (flow->in_waiting) std::erase(waiting_, flow);
    if (flow->scheduled) timers_.erase({*flow->scheduled, flow});
    flows_.erase(it);
    engine_.flow_closed();
  }
}

// Deadlines move with every segment, mostly to later: only an earlier one is noted, and run_timers() looks
// again.
void TcpService::schedule(TcpFlow& flow) {
  const auto deadline = flow.deadline();
  if (!deadline || (flow.scheduled && *flow.scheduled <= *deadline)) return;
  if (flow.scheduled) timers_.erase({*flow.scheduled, &flow});
  flow.scheduled = deadline;
  timers_.emplace(*deadline, &flow);
  arm_timer();
}

void TcpService::arm_timer() {
  if (timers_.empty()) return;
  const Instant at = timers_.begin()->first;
  if (timer_ != 0 && timer_at_ <= at) return;
  loop_.cancel_timer(timer_);
  timer_at_ = at;
  timer_ = loop_.add_timer(at, [this] {
    timer_ = 0;
    run_timers();
  });
}

void TcpService::run_timers() {
  const Instant now = loop_.now();
  while (!timers_.empty() && timers_.begin()->first <= now) {
    TcpFlow& flow = *timers_.begin()->second;
    timers_.erase(timers_.begin());
    flow.scheduled.reset();
    if (flow.dead()) continue;
    const auto deadline = flow.deadline();
    if (deadline && *deadline <= now) flow.on_timer();
    flow.settle();
  }
  arm_timer();
  link_.flush();
  reap();
}

}  // namespace msb::net
