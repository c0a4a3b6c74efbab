// SPDX-License-Identifier: Apache-2.0
#include "net/icmp_relay.h"

#include <netinet/in.h>
#include <sys/socket.h>

#include <array>

#include "net/host_socket.h"

namespace msb::net {

IcmpRelay::IcmpRelay(EventLoop& loop, GuestLink& link, Engine& engine)
    : loop_(loop), link_(link), engine_(engine), rate_(kPerSecond, 0, loop.now()) {}

IcmpRelay::~IcmpRelay() {
  loop_.cancel_timer(timer_);
  for (auto& [key, flow] : flows_) loop_.remove(flow.token);
}

void IcmpRelay::on_packet(const IpPacket& packet, const IcmpMessage& message) {
  const bool v6 = packet.source.is_v6();
  // Errors the guest sends about our packets, and everything else, lead nowhere.
  if (message.type != (v6 ? kIcmpv6EchoRequest : kIcmpEchoRequest) || message.code != 0)
    return link_.drop(Drop::kUnknownProtocol);
  const Instant now = loop_.now();
  if (!rate_.ready(now)) return link_.drop(Drop::kLimit);
  rate_.charge(1, now);
  const std::uint32_t rest = static_cast<std::uint32_t>(message.id) << 16 | message.sequence;
  if (engine_.classifier().is_gateway(packet.destination)) {
    if (packet.payload.size() > link_.mtu() - 40U) return link_.drop(Drop::kLimit);
    return link_.send_packet(make_icmp(packet.destination, packet.source,
                                       v6 ? kIcmpv6EchoReply : kIcmpEchoReply, 0, rest, message.body));
  }
  const Key key{packet.destination, message.id};
  auto it = flows_.find(key);
  if (it == flows_.end()) {
    Flow flow;
    flow.record.protocol = FlowProtocol::kIcmp;
    flow.record.remote = packet.destination;
    flow.record.evidence = NameEvidence::kNever;
    engine_.open(flow.record, now);
    const IpAddress gateway = link_.gateway(packet.source.family());
    if (flow.record.decision.verdict != Verdict::kAllow) {
      engine_.note_denied(flow.record);
      link_.drop(Drop::kDenied);
      return link_.send_packet(make_icmp_error(gateway, packet, Unreachable::kAdminProhibited));
    }
    if (flows_.size() >= kMaxFlows || message.body.size() > kMaxBody) return link_.drop(Drop::kLimit);
    const IpAddress target = unmap(packet.destination);
    auto socket =
        open_socket(target.family(), SOCK_DGRAM,
                    target.is_v4() ? static_cast<int>(IPPROTO_ICMP) : static_cast<int>(IPPROTO_ICMPV6));
    const int error = socket ? start_connect(socket->get(), target, 0) : socket.error().sys_errno;
    if (error != 0) {
      // EACCES: this host does not let its users ping.
      return link_.send_packet(make_icmp_error(
          gateway, packet, error == EACCES ? Unreachable::kAdminProhibited : Unreachable::kHost));
    }
    flow.socket = std::move(socket).value();
    auto token = loop_.add(flow.socket.get(), EPOLLIN, [this, key](std::uint32_t) {
      on_readable(key);
      link_.flush();
    });
    if (!token) return link_.drop(Drop::kLimit);
    flow.token = *token;
    engine_.note_allowed(flow.record);
    it = flows_.emplace(key, std::move(flow)).first;
    arm();
  }
  it->second.last = now;
  it->second.record.bytes_from_guest += message.body.size();
  if (engine_.charge_bytes(message.body.size()) || message.body.size() > kMaxBody)
    return link_.drop(Drop::kLimit);
  // The kernel puts its own id in place and checks the sum.
  const bool wire_v6 = unmap(packet.destination).is_v6();
  ByteWriter echo;
  IcmpHeader header;
  header.type = wire_v6 ? kIcmpv6EchoRequest : kIcmpEchoRequest;
  header.rest = message.sequence;
  echo.put(header);
  echo.put_bytes(message.body);
  if (::send(it->second.socket.get(), echo.view().data(), echo.size(), MSG_NOSIGNAL | MSG_DONTWAIT) < 0 &&
      errno != EAGAIN) {
    link_.send_packet(make_icmp_error(link_.gateway(packet.source.family()), packet, Unreachable::kHost));
  }
}

void IcmpRelay::on_readable(const Key& key) {
  const auto it = flows_.find(key);
  if (it == flows_.end()) return;
  std::array<std::uint8_t, 2048> buffer{};
  for (int i = 0; i < 16; ++i) {
    const ssize_t got = ::recv(it->second.socket.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
    if (got < static_cast<ssize_t>(sizeof(IcmpHeader))) return;
    ByteReader reader(ByteView(buffer).first(static_cast<std::size_t>(got)));
    const auto header = reader.take<IcmpHeader>();
    if (!header) return;
    const bool wire_v6 = unmap(key.remote).is_v6();
    if (header->type != (wire_v6 ? kIcmpv6EchoReply : kIcmpEchoReply)) continue;
    const bool v6 = key.remote.is_v6();
    const std::uint32_t rest = static_cast<std::uint32_t>(key.id) << 16 | (header->rest.get() & 0xffff);
    if (!link_.can_send() || engine_.charge_bytes(reader.remaining())) continue;
    it->second.record.bytes_to_guest += reader.remaining();
    link_.send_packet(make_icmp(key.remote, link_.guest_address(key.remote.family()),
                                v6 ? kIcmpv6EchoReply : kIcmpEchoReply, 0, rest, reader.rest()));
  }
}

std::map<IcmpRelay::Key, IcmpRelay::Flow>::iterator IcmpRelay::close(std::map<Key, Flow>::iterator it,
                                                                     const char* how) {
  loop_.remove(it->second.token);
  engine_.note_closed(it->second.record, loop_.now(), how);
  return flows_.erase(it);
}

void IcmpRelay::rejudge_all() {
  for (auto it = flows_.begin(); it != flows_.end();) {
    engine_.rejudge(it->second.record);
    it = it->second.record.decision.verdict == Verdict::kAllow ? std::next(it) : close(it, "denied");
  }
}

void IcmpRelay::arm() {
  if (timer_ != 0 || flows_.empty()) return;
  timer_ = loop_.add_timer_after(kIdle, [this] {
    timer_ = 0;
    const Instant now = loop_.now();
    for (auto it = flows_.begin(); it != flows_.end();)
      it = it->second.last + kIdle <= now ? close(it, "idle") : std::next(it);
    arm();
  });
}

}  // namespace msb::net
