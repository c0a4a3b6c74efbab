// SPDX-License-Identifier: Apache-2.0
#include "net/udp_relay.h"

#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>

#include "net/host_socket.h"

namespace msb::net {
namespace {
constexpr std::uint16_t kDnsPort = 53;
constexpr std::size_t kBuffer = 65536;
constexpr int kReadsPerEvent = 64;
constexpr std::size_t kMaxDenied = 256;
constexpr Duration kSweep = std::chrono::seconds(15);
}  // namespace

UdpRelay::UdpRelay(EventLoop& loop, GuestLink& link, Engine& engine, DnsProxy& dns, std::uint32_t max_flows)
    : loop_(loop),
      link_(link),
      engine_(engine),
      dns_(dns),
      max_flows_(max_flows),
      buffer_(new std::uint8_t[kBuffer]),
      alive_(std::make_shared<bool>(true)) {}

UdpRelay::~UdpRelay() {
  *alive_ = false;
  loop_.cancel_timer(timer_);
  for (auto& [key, flow] : flows_) {
    if (flow.token.valid()) loop_.remove(flow.token);
  }
}

void UdpRelay::answer_dns(const IpPacket& packet, const UdpDatagram& datagram) {
  const IpAddress server = packet.destination;
  const IpAddress guest = packet.source;
  const std::uint16_t port = datagram.source_port;
  dns_.query(datagram.payload, DnsProxy::Transport::kUdp,
             [this, alive = alive_, server, guest, port](Bytes reply) {
               if (!*alive) return;
               link_.send_udp(server, kDnsPort, guest, port, reply);
               link_.flush();
             });
}

void UdpRelay::on_packet(const IpPacket& packet, const UdpDatagram& datagram) {
  const bool gateway = engine_.classifier().is_gateway(packet.destination);
  if (datagram.destination_port == kDnsPort && (gateway || engine_.policy().has_name_rules()))
    return answer_dns(packet, datagram);
  const Key key{packet.destination, datagram.destination_port, datagram.source_port};
  const auto it = flows_.find(key);
  if (it == flows_.end()) return open_flow(packet, datagram, key);
  send_to_host(it->second, key, datagram.payload);
}

void UdpRelay::open_flow(const IpPacket& packet, const UdpDatagram& datagram, const Key& key) {
  FlowRecord record;
  record.protocol = FlowProtocol::kUdp;
  record.remote = packet.destination;
  record.remote_port = datagram.destination_port;
  record.guest_port = datagram.source_port;
  record.evidence = NameEvidence::kNever;
  const Instant now = loop_.now();
  engine_.open(record, now);
  const IpAddress gateway = link_.gateway(packet.source.family());
  if (record.decision.verdict != Verdict::kAllow) {
    ++counters_.denied;
    link_.drop(Drop::kDenied);
    if (!denied_.contains(key)) {
      if (denied_.size() >= kMaxDenied) denied_.clear();
      engine_.note_denied(record);
      denied_.emplace(key, record);
    }
    return link_.send_packet(make_icmp_error(gateway, packet, Unreachable::kAdminProhibited));
  }
  if (flows_.size() >= max_flows_ || engine_.budget_spent() || !engine_.flow_opened(max_flows_)) {
    link_.drop(Drop::kLimit);
    return link_.send_packet(make_icmp_error(gateway, packet, Unreachable::kAdminProhibited));
  }
  const bool to_gateway = engine_.classifier().is_gateway(packet.destination);
  const IpAddress target =
      to_gateway ? (packet.destination.is_v4() ? IpAddress::v4(0x7f000001) : *IpAddress::parse("::1"))
                 : unmap(packet.destination);
  Flow flow;
  auto socket = open_socket(target.family(), SOCK_DGRAM);
  int error =
      socket ? start_connect(socket->get(), target, datagram.destination_port) : socket.error().sys_errno;
  if (error == 0) {
    // As for streams: an address that turns out to be this machine's own was judged wrongly.
    const AddressClass address_class = engine_.classifier().classify(packet.destination);
    if (local_endpoint(socket->get()).first == target && !is_guarded(address_class)) error = EACCES;
  }
  if (error != 0) {
    engine_.flow_closed();
    return link_.send_packet(
        make_icmp_error(gateway, packet, error == ENETUNREACH ? Unreachable::kNetwork : Unreachable::kHost));
  }
  const int off = target.is_v4() ? IP_PMTUDISC_DONT : IPV6_PMTUDISC_DONT;
  (void)::setsockopt(socket->get(), target.is_v4() ? IPPROTO_IP : IPPROTO_IPV6,
                     target.is_v4() ? IP_MTU_DISCOVER : IPV6_MTU_DISCOVER, &off, sizeof off);
  flow.record = std::move(record);
  flow.socket = std::move(socket).value();
  auto token = loop_.add(flow.socket.get(), EPOLLIN, [this, key](std::uint32_t) {
    on_readable(key);
    link_.flush();
  });
  if (!token) return engine_.flow_closed();
  flow.token = *token;
  ++counters_.opened;
  engine_.note_allowed(flow.record);
  Flow& stored = flows_.emplace(key, std::move(flow)).first->second;
  send_to_host(stored, key, datagram.payload);
  arm();
}

void UdpRelay::send_to_host(Flow& flow, const Key& key, ByteView payload) {
  flow.last = loop_.now();
  flow.record.bytes_from_guest += payload.size();
  if (engine_.charge_bytes(payload.size())) return link_.drop(Drop::kLimit);
  ssize_t sent = 0;
  if (flow.socket) {
    sent = ::send(flow.socket.get(), payload.data(), payload.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  } else {
    const SocketAddress to = to_socket_address(flow.peer, flow.peer_port);
    sent = ::sendto(flow.shared, payload.data(), payload.size(), MSG_NOSIGNAL | MSG_DONTWAIT, to.get(),
                    to.length);
  }
  if (sent >= 0) return;
  ++counters_.dropped;
  // A pending ICMP error shows on the next call; this datagram may be tried again once it has been taken.
  if (errno == ECONNREFUSED && flow.socket) {
    report_error(key, ECONNREFUSED);
    (void)!::send(flow.socket.get(), payload.data(), payload.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  } else if (errno != EAGAIN && flow.socket) {
    report_error(key, errno);
  }
}

// Quotes a datagram such as the guest sent on this flow.
void UdpRelay::report_error(const Key& key, int error) {
  const IpAddress guest = link_.guest_address(key.remote.family());
  UdpHeader udp;
  udp.source_port = key.guest_port;
  udp.destination_port = key.remote_port;
  udp.length = sizeof udp;
  ByteWriter quoted;
  put_ip_header(quoted, guest, key.remote, kIpProtocolUdp, sizeof udp);
  quoted.put(udp);
  IpPacket packet;
  packet.source = guest;
  packet.destination = key.remote;
  packet.protocol = kIpProtocolUdp;
  packet.whole = quoted.view();
  packet.payload = quoted.view().last(sizeof udp);
  const bool refused = error == ECONNREFUSED;
  // "Port unreachable" has to come from the destination itself to be believed.
  link_.send_packet(make_icmp_error(refused ? key.remote : link_.gateway(key.remote.family()), packet,
                                    refused ? Unreachable::kPort : Unreachable::kHost));
}

void UdpRelay::on_readable(const Key& key) {
  const auto it = flows_.find(key);
  if (it == flows_.end()) return;
  Flow& flow = it->second;
  const IpAddress guest = link_.guest_address(key.remote.family());
  for (int i = 0; i < kReadsPerEvent; ++i) {
    const ssize_t got = ::recv(flow.socket.get(), buffer_.get(), kBuffer, MSG_DONTWAIT);
    if (got < 0) {
      if (errno != EAGAIN && errno != EINTR) report_error(key, errno);
      return;
    }
    const auto count = static_cast<std::size_t>(got);
    flow.last = loop_.now();
    flow.record.bytes_to_guest += count;
    if (engine_.charge_bytes(count) || !link_.can_send()) {
      link_.drop(Drop::kOutputFull);
      continue;
    }
    link_.send_udp(key.remote, key.remote_port, guest, key.guest_port, ByteView(buffer_.get(), count));
  }
}

void UdpRelay::on_inbound(int socket, const IpAddress& peer, std::uint16_t peer_port,
                          std::uint16_t guest_port, ByteView payload) {
  const AddressClass peer_class = engine_.classifier().classify(peer);
  Key key{peer, peer_port, guest_port};
  const bool has_family = !link_.guest_address(peer.family()).is_unspecified();
  if (!has_family || is_guarded(peer_class)) {
    const bool v4 = !link_.guest_address(IpAddress::Family::kV4).is_unspecified();
    key.remote =
        link_.gateway(v4 && (peer.is_v4() || link_.guest_address(IpAddress::Family::kV6).is_unspecified())
                          ? IpAddress::Family::kV4
                          : IpAddress::Family::kV6);
  }
  auto it = flows_.find(key);
  if (it != flows_.end() && (it->second.shared != socket || it->second.peer != peer)) {
    ++counters_.dropped;
    return;
  }
  if (it == flows_.end()) {
    Flow flow;
    flow.record.protocol = FlowProtocol::kUdp;
    flow.record.ingress = true;
    flow.record.remote = peer;
    flow.record.remote_port = peer_port;
    flow.record.guest_port = guest_port;
    flow.record.evidence = NameEvidence::kNever;
    engine_.open(flow.record, loop_.now());
    if (flow.record.decision.verdict != Verdict::kAllow) {
      ++counters_.denied;
      return engine_.note_denied(flow.record);
    }
    if (engine_.budget_spent() || !engine_.flow_opened(max_flows_)) {
      ++counters_.dropped;
      return;
    }
    flow.shared = socket;
    flow.peer = peer;
    flow.peer_port = peer_port;
    ++counters_.opened;
    engine_.note_allowed(flow.record);
    it = flows_.emplace(key, std::move(flow)).first;
    arm();
  }
  Flow& flow = it->second;
  flow.last = loop_.now();
  flow.record.bytes_to_guest += payload.size();
  if (engine_.charge_bytes(payload.size()) || !link_.can_send()) return link_.drop(Drop::kOutputFull);
  link_.send_udp(key.remote, key.remote_port, link_.guest_address(key.remote.family()), guest_port, payload);
}

UdpRelay::Flows::iterator UdpRelay::close(Flows::iterator it, const char* how) {
  if (it->second.token.valid()) loop_.remove(it->second.token);
  engine_.note_closed(it->second.record, loop_.now(), how);
  engine_.flow_closed();
  return flows_.erase(it);
}

void UdpRelay::forget_socket(int socket) {
  for (auto it = flows_.begin(); it != flows_.end();)
    it = it->second.shared == socket ? close(it, "unpublished") : std::next(it);
}

void UdpRelay::rejudge_all() {
  denied_.clear();
  for (auto it = flows_.begin(); it != flows_.end();) {
    engine_.rejudge(it->second.record);
    if (it->second.record.decision.verdict == Verdict::kAllow) {
      ++it;
      continue;
    }
    engine_.note_denied(it->second.record);
    it = close(it, "denied");
  }
}

void UdpRelay::close_all(const char* why) {
  while (!flows_.empty()) close(flows_.begin(), why);
}

void UdpRelay::expire() {
  const Instant now = loop_.now();
  for (auto it = flows_.begin(); it != flows_.end();)
    it = it->second.last + kIdle <= now ? close(it, "idle") : std::next(it);
  denied_.clear();
  arm();
}

void UdpRelay::arm() {
  if (timer_ != 0 || flows_.empty()) return;
  timer_ = loop_.add_timer_after(kSweep, [this] {
    timer_ = 0;
    expire();
  });
}

}  // namespace msb::net
