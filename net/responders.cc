// SPDX-License-Identifier: Apache-2.0
#include "net/responders.h"

#include <algorithm>
#include <cstring>

namespace msb::net {
namespace {

// NDP options (RFC 4861 4.6, RFC 8106).
constexpr std::uint8_t kSourceLinkAddress = 1;
constexpr std::uint8_t kTargetLinkAddress = 2;
constexpr std::uint8_t kPrefixInformation = 3;
constexpr std::uint8_t kMtuOption = 5;
constexpr std::uint8_t kRecursiveDns = 25;
constexpr std::uint8_t kNdpHopLimit = 255;

// DHCP (RFC 2131, options RFC 2132).
constexpr std::uint32_t kDhcpMagic = 0x63825363;
constexpr std::uint8_t kDhcpDiscover = 1;
constexpr std::uint8_t kDhcpOffer = 2;
constexpr std::uint8_t kDhcpRequest = 3;
constexpr std::uint8_t kDhcpAck = 5;
constexpr std::uint8_t kDhcpNak = 6;
constexpr std::uint8_t kDhcpInform = 8;
constexpr std::uint32_t kLeaseSeconds = 86400;

struct DhcpHeader {
  std::uint8_t op = 0;
  std::uint8_t hardware_type = 1;
  std::uint8_t hardware_length = 6;
  std::uint8_t hops = 0;
  Be32 transaction;
  Be16 seconds;
  Be16 flags;
  Be32 client;
  Be32 yours;
  Be32 server;
  Be32 relay;
  std::array<std::uint8_t, 16> hardware{};
  std::array<std::uint8_t, 64> server_name{};
  std::array<std::uint8_t, 128> file{};
  Be32 magic = kDhcpMagic;
};
static_assert(sizeof(DhcpHeader) == 240 && WireStruct<DhcpHeader>);

}  // namespace

Drop Responders::on_arp(ByteView payload) {
  const auto arp = parse_arp(payload);
  if (!arp) return Drop::kBadHeader;
  const auto& v4 = link_.guest().ipv4;
  if (!v4 || arp->operation.get() != ArpPacket::kRequest || arp->sender_mac != link_.guest().mac)
    return Drop::kBadHeader;
  const std::uint32_t sender = arp->sender_ip.get();
  if (sender != 0 && sender != v4->address.v4_value()) return Drop::kSpoofedAddress;
  // The gateway answers for everyone but the guest itself, so that a netmask that is wrong still leads here;
  // a probe (sender 0) is about the guest's own address.
  if (arp->target_ip.get() == v4->address.v4_value() || sender == 0) return Drop::kNone;
  ArpPacket reply;
  reply.operation = ArpPacket::kReply;
  reply.sender_mac = link_.guest().gateway_mac;
  reply.sender_ip = arp->target_ip;
  reply.target_mac = arp->sender_mac;
  reply.target_ip = arp->sender_ip;
  ByteWriter out;
  out.put(reply);
  link_.send_frame(link_.guest().mac, kEtherTypeArp, out.view());
  return Drop::kNone;
}

void Responders::advertise_neighbor(const IpAddress& target, const IpAddress& to, bool solicited) {
  ByteWriter body;
  body.put_bytes(target.bytes());
  body.put_u8(kTargetLinkAddress);
  body.put_u8(1);
  body.put_bytes(link_.guest().gateway_mac);
  const std::uint32_t flags =
      0x80000000U | (solicited ? 0x40000000U : 0U) | 0x20000000U;  // router, solicited, override
  link_.send_packet(make_icmp(target, to, kNdpNeighborAdvertisement, 0, flags, body.view(), kNdpHopLimit));
}

void Responders::advertise_router(const IpAddress& to) {
  const auto& v6 = *link_.guest().ipv6;
  ByteWriter body;
  body.put(Be32(0));  // reachable time: unspecified
  body.put(Be32(0));  // retransmit timer
  body.put_u8(kSourceLinkAddress);
  body.put_u8(1);
  body.put_bytes(link_.guest().gateway_mac);
  body.put_u8(kMtuOption);
  body.put_u8(1);
  body.put(Be16(0));
  body.put(Be32(link_.mtu()));
  const auto prefix = IpPrefix::make(v6.address, v6.prefix);
  body.put_u8(kPrefixInformation);
  body.put_u8(4);
  body.put_u8(v6.prefix);
  body.put_u8(0x80);  // on link; no autonomous addresses: others would be dropped as spoofed
  body.put(Be32(0xffffffff));
  body.put(Be32(0xffffffff));
  body.put(Be32(0));
  body.put_bytes(prefix->address.bytes());
  body.put_u8(kRecursiveDns);
  body.put_u8(3);
  body.put(Be16(0));
  body.put(Be32(0xffffffff));
  body.put_bytes(v6.gateway.bytes());
  // Router advertisements come from a link-local address (RFC 4861 4.2), made of the gateway's MAC.
  const MacAddress& mac = link_.guest().gateway_mac;
  std::array<std::uint8_t, 16> own{
      0xfe,   0x80,   0,    0,    0,      0,      0,     0, static_cast<std::uint8_t>(mac[0] ^ 2),
      mac[1], mac[2], 0xff, 0xfe, mac[3], mac[4], mac[5]};
  const std::uint32_t rest = 64U << 24 | 9000U;  // hop limit, no flags, router lifetime in seconds
  link_.send_packet(
      make_icmp(IpAddress::v6(own), to, kNdpRouterAdvertisement, 0, rest, body.view(), kNdpHopLimit));
}

Drop Responders::on_ndp(const IpPacket& packet, const IcmpMessage& message) {
  const auto& v6 = link_.guest().ipv6;
  if (!v6) return Drop::kUnknownProtocol;
  if (message.type != kNdpNeighborSolicitation && message.type != kNdpRouterSolicitation)
    return Drop::kUnknownProtocol;
  if (packet.hop_limit != kNdpHopLimit || message.code != 0) return Drop::kBadHeader;
  const IpAddress to = packet.source.is_unspecified() ? *IpAddress::parse("ff02::1") : packet.source;
  if (message.type == kNdpRouterSolicitation) {
    advertise_router(to);
    return Drop::kNone;
  }
  if (message.body.size() < 16) return Drop::kTruncated;
  const IpAddress target = *IpAddress::from_bytes(message.body.first(16));
  // Duplicate address detection (source ::) asks about the guest's own addresses: nobody else has them.
  if (packet.source.is_unspecified() || target == v6->address || target == packet.source) return Drop::kNone;
  if (target.raw()[0] == 0xff) return Drop::kBadHeader;
  advertise_neighbor(target, to, true);
  return Drop::kNone;
}

Drop Responders::on_dhcp(ByteView datagram) {
  const auto& v4 = link_.guest().ipv4;
  if (!v4) return Drop::kUnknownProtocol;
  ByteReader reader(datagram);
  const auto request = reader.take<DhcpHeader>();
  if (!request) return Drop::kTruncated;
  if (request->op != 1 || request->hardware_type != 1 || request->hardware_length != 6 ||
      request->magic.get() != kDhcpMagic)
    return Drop::kBadHeader;
  if (!std::equal(link_.guest().mac.begin(), link_.guest().mac.end(), request->hardware.begin()))
    return Drop::kSpoofedMac;
  std::uint8_t type = 0;
  std::optional<std::uint32_t> wanted;
  while (!reader.empty()) {
    const std::uint8_t option = *reader.take_u8();
    if (option == 0) continue;
    if (option == 255) break;
    const auto length = reader.take_u8();
    const auto value = length ? reader.take(*length) : std::nullopt;
    if (!value) return Drop::kTruncated;
    if (option == 53 && value->size() == 1) type = (*value)[0];
    if (option == 50 && value->size() == 4) wanted = IpAddress::from_bytes(*value)->v4_value();
  }
  if (type != kDhcpDiscover && type != kDhcpRequest && type != kDhcpInform) return Drop::kNone;
  std::uint8_t answer = type == kDhcpDiscover ? kDhcpOffer : kDhcpAck;
  const std::uint32_t asked = wanted.value_or(request->client.get());
  if (type == kDhcpRequest && asked != v4->address.v4_value()) answer = kDhcpNak;
  DhcpHeader reply;
  reply.op = 2;
  reply.transaction = request->transaction;
  reply.flags = request->flags;
  reply.client = request->client;
  reply.hardware = request->hardware;
  if (answer != kDhcpNak && type != kDhcpInform) reply.yours = v4->address.v4_value();
  reply.server = v4->gateway.v4_value();
  ByteWriter out;
  out.put(reply);
  const auto put_option = [&](std::uint8_t code, ByteView value) {
    out.put_u8(code);
    out.put_u8(static_cast<std::uint8_t>(value.size()));
    out.put_bytes(value);
  };
  const auto put_u32 = [&](std::uint8_t code, std::uint32_t value) {
    const Be32 wire(value);
    std::array<std::uint8_t, 4> raw{};
    std::memcpy(raw.data(), &wire, 4);
    put_option(code, raw);
  };
  put_option(53, std::array{answer});
  put_u32(54, v4->gateway.v4_value());
  if (answer != kDhcpNak) {
    if (type != kDhcpInform) put_u32(51, kLeaseSeconds);
    put_u32(1, v4->prefix == 0 ? 0 : ~std::uint32_t{0} << (32 - v4->prefix));
    put_u32(3, v4->gateway.v4_value());
    put_u32(6, v4->gateway.v4_value());
    put_option(
        26, std::array{static_cast<std::uint8_t>(link_.mtu() >> 8), static_cast<std::uint8_t>(link_.mtu())});
  }
  out.put_u8(255);
  // The client may not take unicast before it has its address: to the broadcast address, at its own MAC.
  link_.send_udp(v4->gateway, 67, IpAddress::v4(0xffffffff), 68, out.view());
  return Drop::kNone;
}

}  // namespace msb::net
