// SPDX-License-Identifier: Apache-2.0
#include "net/guest_link.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "net/wire/checksum.h"
#include "net/wire/transport.h"

namespace msb::net {
namespace {
constexpr std::size_t kTcpHeader = 20;
constexpr std::size_t kChecksumOffsetTcp = 16;
constexpr std::uint32_t kMaxOffloadPayload = 65535 - 60 - 60;
}  // namespace

GuestLink::GuestLink(EventLoop& loop, FramePort& port, const proto::NetGuestSpec& guest,
                     const proto::NetLimitsSpec& limits)
    : loop_(loop), port_(port), guest_(guest) {
  const Instant now = loop.now();
  const auto bucket = [&](std::uint64_t rate, std::uint64_t burst) {
    return rate == 0 ? TokenBucket() : TokenBucket(rate, burst, now);
  };
  egress_bytes_ = bucket(limits.egress.bytes_per_s, limits.egress.burst_bytes);
  egress_packets_ = bucket(limits.egress.packets_per_s, limits.egress.burst_packets);
  ingress_bytes_ = bucket(limits.ingress.bytes_per_s, limits.ingress.burst_bytes);
  ingress_packets_ = bucket(limits.ingress.packets_per_s, limits.ingress.burst_packets);
  ingress_limited_ = ingress_bytes_.limited() || ingress_packets_.limited();
}

GuestLink::~GuestLink() {
  loop_.cancel_timer(egress_timer_);
  loop_.cancel_timer(ingress_timer_);
}

std::uint16_t GuestLink::mss(IpAddress::Family family) const {
  return static_cast<std::uint16_t>(
      guest_.mtu - kTcpHeader - (family == IpAddress::Family::kV4 ? sizeof(Ipv4Header) : sizeof(Ipv6Header)));
}

std::uint32_t GuestLink::max_segment(IpAddress::Family family) const {
  return port_.vnet_hdr() ? kMaxOffloadPayload : mss(family);
}

IpAddress GuestLink::gateway(IpAddress::Family family) const {
  const auto& spec = family == IpAddress::Family::kV4 ? guest_.ipv4 : guest_.ipv6;
  return spec ? spec->gateway : (family == IpAddress::Family::kV4 ? IpAddress() : IpAddress::v6({}));
}

IpAddress GuestLink::guest_address(IpAddress::Family family) const {
  const auto& spec = family == IpAddress::Family::kV4 ? guest_.ipv4 : guest_.ipv6;
  return spec ? spec->address : (family == IpAddress::Family::kV4 ? IpAddress() : IpAddress::v6({}));
}

bool GuestLink::can_send() {
  if (!port_.can_send()) return false;
  if (!ingress_limited_) return true;
  const Instant now = loop_.now();
  const Instant at = std::max(ingress_bytes_.ready_at(now), ingress_packets_.ready_at(now));
  if (at <= now) return true;
  if (ingress_timer_ == 0) {
    ingress_timer_ = loop_.add_timer(at, [this] {
      ingress_timer_ = 0;
      if (on_writable_) on_writable_();
    });
  }
  return false;
}

void GuestLink::charge_ingress(std::size_t bytes) {
  if (!ingress_limited_) return;
  const Instant now = loop_.now();
  ingress_bytes_.charge(bytes, now);
  ingress_packets_.charge(1, now);
}

void GuestLink::charge_egress(std::size_t bytes) {
  if (!egress_bytes_.limited() && !egress_packets_.limited()) return;
  const Instant now = loop_.now();
  egress_bytes_.charge(bytes, now);
  egress_packets_.charge(1, now);
  const Instant at = std::max(egress_bytes_.ready_at(now), egress_packets_.ready_at(now));
  if (at <= now || egress_timer_ != 0) return;
  port_.set_reading(false);
  egress_timer_ = loop_.add_timer(at, [this] {
    egress_timer_ = 0;
    port_.set_reading(true);
  });
}

void GuestLink::send_frame(const MacAddress& destination, std::uint16_t type, ByteView payload) {
  EthernetHeader header;
  header.destination = destination;
  header.source = guest_.gateway_mac;
  header.type = type;
  std::array<std::uint8_t, sizeof header> raw{};
  std::memcpy(raw.data(), &header, sizeof header);
  const std::array<ByteView, 2> parts{ByteView(raw), payload};
  charge_ingress(sizeof header + payload.size());
  if (!port_.send(parts, {})) drop(Drop::kOutputFull);
}

void GuestLink::send_packet(ByteView packet) {
  if (packet.empty()) return;
  send_frame(guest_.mac, (packet[0] >> 4) == 4 ? kEtherTypeIpv4 : kEtherTypeIpv6, packet);
}

void GuestLink::send_ip(ByteView headers, std::span<const ByteView> payload, bool v6,
                        const VnetHeader& vnet) {
  EthernetHeader ethernet;
  ethernet.destination = guest_.mac;
  ethernet.source = guest_.gateway_mac;
  ethernet.type = v6 ? kEtherTypeIpv6 : kEtherTypeIpv4;
  std::array<std::uint8_t, sizeof ethernet + 128> raw{};
  MSB_CHECK(headers.size() <= 128);
  std::memcpy(raw.data(), &ethernet, sizeof ethernet);
  std::memcpy(raw.data() + sizeof ethernet, headers.data(), headers.size());
  std::array<ByteView, 4> parts{};
  std::size_t count = 0;
  std::size_t total = sizeof ethernet + headers.size();
  parts[count++] = ByteView(raw).first(total);
  for (const ByteView part : payload) {
    if (part.empty()) continue;
    parts[count++] = part;
    total += part.size();
  }
  charge_ingress(total);
  if (!port_.send(std::span(parts).first(count), vnet)) drop(Drop::kOutputFull);
}

void GuestLink::send_udp(const IpAddress& source, std::uint16_t source_port, const IpAddress& destination,
                         std::uint16_t destination_port, ByteView payload) {
  const bool v6 = source.is_v6();
  const std::size_t ip_header = v6 ? sizeof(Ipv6Header) : sizeof(Ipv4Header);
  const std::size_t length = sizeof(UdpHeader) + payload.size();
  if (length > 65535 - (v6 ? 0 : ip_header)) return drop(Drop::kBadHeader);
  UdpHeader udp;
  udp.source_port = source_port;
  udp.destination_port = destination_port;
  udp.length = static_cast<std::uint16_t>(length);
  std::array<std::uint8_t, 48 + 8> headers{};
  ChecksumSum sum;
  sum.add_pseudo_header(source, destination, kIpProtocolUdp, static_cast<std::uint32_t>(length));
  std::memcpy(headers.data(), &udp, sizeof udp);
  sum.add(ByteView(headers).first(sizeof udp));
  sum.add(payload);
  const std::uint16_t checksum = sum.finish();
  udp.checksum = checksum == 0 ? std::uint16_t{0xffff} : checksum;  // RFC 768: zero means none
  if (ip_header + length <= guest_.mtu) {
    const std::size_t used = write_ip_header(headers, source, destination, kIpProtocolUdp, length);
    std::memcpy(headers.data() + used, &udp, sizeof udp);
    return send_ip(ByteView(headers).first(used + sizeof udp), std::span(&payload, 1), v6, {});
  }
  // Fragments: every piece but the last a multiple of eight bytes.
  Bytes whole(length);
  std::memcpy(whole.data(), &udp, sizeof udp);
  std::memcpy(whole.data() + sizeof udp, payload.data(), payload.size());
  const std::size_t extension = v6 ? 8 : 0;
  const std::size_t piece = (guest_.mtu - ip_header - extension) & ~std::size_t{7};
  const std::uint32_t id = ++fragment_id_;
  for (std::size_t offset = 0; offset < length; offset += piece) {
    const std::size_t count = std::min(piece, length - offset);
    const bool more = offset + count < length;
    std::size_t used =
        write_ip_header(headers, source, destination, v6 ? 44 : kIpProtocolUdp, count + extension);
    if (v6) {
      const Be16 field(static_cast<std::uint16_t>(offset | (more ? 1U : 0U)));
      const Be32 wire_id(id);
      headers[used] = kIpProtocolUdp;
      headers[used + 1] = 0;
      std::memcpy(headers.data() + used + 2, &field, sizeof field);
      std::memcpy(headers.data() + used + 4, &wire_id, sizeof wire_id);
      used += 8;
    } else {
      Ipv4Header header;
      std::memcpy(&header, headers.data(), sizeof header);
      header.id = static_cast<std::uint16_t>(id);
      header.fragment = static_cast<std::uint16_t>(offset / 8 | (more ? 0x2000U : 0U));
      header.checksum = std::uint16_t{0};
      std::memcpy(headers.data(), &header, sizeof header);
      ChecksumSum header_sum;
      header_sum.add(ByteView(headers).first(sizeof header));
      header.checksum = header_sum.finish();
      std::memcpy(headers.data(), &header, sizeof header);
    }
    const ByteView part = ByteView(whole).subspan(offset, count);
    send_ip(ByteView(headers).first(used), std::span(&part, 1), v6, {});
  }
}

void GuestLink::send_tcp(const IpAddress& source, std::uint16_t source_port, const IpAddress& destination,
                         std::uint16_t destination_port, const TcpOutput& segment) {
  const bool v6 = source.is_v6();
  std::array<std::uint8_t, 8> options{};
  std::size_t option_bytes = 0;
  if (segment.mss) {
    options = {
        2, 4, static_cast<std::uint8_t>(*segment.mss >> 8), static_cast<std::uint8_t>(*segment.mss), 1, 3,
        3, 0};
    option_bytes = 4;
    if (segment.window_scale) {
      options[7] = *segment.window_scale;
      option_bytes = 8;
    }
  }
  const std::size_t data = segment.payload[0].size() + segment.payload[1].size();
  const std::size_t tcp_length = kTcpHeader + option_bytes + data;
  TcpHeader tcp;
  tcp.source_port = source_port;
  tcp.destination_port = destination_port;
  tcp.sequence = segment.sequence;
  tcp.acknowledgment = segment.acknowledgment;
  tcp.offset = static_cast<std::uint8_t>((kTcpHeader + option_bytes) / 4 << 4);
  tcp.flags = segment.flags;
  tcp.window = segment.window;
  std::array<std::uint8_t, sizeof(Ipv6Header) + kTcpHeader + 8> headers{};
  const std::size_t ip_length = write_ip_header(headers, source, destination, kIpProtocolTcp, tcp_length);
  const MutableBytes rest = MutableBytes(headers).subspan(ip_length);
  std::memcpy(rest.data(), &tcp, sizeof tcp);
  std::memcpy(rest.data() + kTcpHeader, options.data(), option_bytes);
  ChecksumSum sum;
  sum.add_pseudo_header(source, destination, kIpProtocolTcp, static_cast<std::uint32_t>(tcp_length));
  VnetHeader vnet;
  if (port_.vnet_hdr() && data > 0) {
    tcp.checksum = sum.partial();  // the guest's driver, or its device, adds the rest
    vnet.flags = VnetHeader::kNeedsChecksum;
    vnet.checksum_start = static_cast<std::uint16_t>(sizeof(EthernetHeader) + ip_length);
    vnet.checksum_offset = static_cast<std::uint16_t>(kChecksumOffsetTcp);
    if (segment.segment_size != 0 && data > segment.segment_size) {
      vnet.gso_type = v6 ? VnetHeader::kGsoTcpv6 : VnetHeader::kGsoTcpv4;
      vnet.gso_size = segment.segment_size;
      vnet.header_length =
          static_cast<std::uint16_t>(sizeof(EthernetHeader) + ip_length + kTcpHeader + option_bytes);
    }
  } else {
    sum.add(rest.first(kTcpHeader + option_bytes));
    sum.add(segment.payload[0]);
    if ((segment.payload[0].size() & 1) != 0)
      sum.add_at_odd_offset(segment.payload[1]);
    else
      sum.add(segment.payload[1]);
    tcp.checksum = sum.finish();
  }
  std::memcpy(rest.data(), &tcp, sizeof tcp);
  send_ip(ByteView(headers).first(ip_length + kTcpHeader + option_bytes), segment.payload, v6, vnet);
}

}  // namespace msb::net
