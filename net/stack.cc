// SPDX-License-Identifier: Apache-2.0
#include "net/stack.h"

#include <cstring>

namespace msb::net {
namespace {

constexpr std::uint16_t kDhcpServerPort = 67;
constexpr std::uint16_t kDhcpClientPort = 68;

bool is_group(const IpAddress& address) {
  const auto& raw = address.raw();
  return address.is_v4() ? raw[0] >= 224 : raw[0] == 0xff;
}

}  // namespace

void Stack::on_frame(ByteView frame, const VnetHeader& vnet) {
  s_.link.charge_egress(frame.size());
  if (const Drop reason = take(frame, vnet); reason != Drop::kNone) s_.link.drop(reason);
}

Drop Stack::take(ByteView frame, const VnetHeader& vnet) {
  ByteReader reader(frame);
  const auto ethernet = reader.take<EthernetHeader>();
  if (!ethernet) return Drop::kTruncated;
  const auto& guest = s_.link.guest();
  const bool group = (ethernet->destination[0] & 1) != 0;
  if (ethernet->source != guest.mac || (!group && ethernet->destination != guest.gateway_mac))
    return Drop::kSpoofedMac;
  Checksum checksum = Checksum::kVerify;
  if ((vnet.flags & VnetHeader::kNeedsChecksum) != 0) {
    // The sum is left to us, and the bytes reached us over memory: there is nothing it could tell.
    if (vnet.checksum_start.get() < sizeof(EthernetHeader) || vnet.checksum_start.get() >= frame.size())
      return Drop::kBadVnetHeader;
    checksum = Checksum::kTrusted;
  } else if (vnet.gso_type != VnetHeader::kGsoNone) {
    return Drop::kBadVnetHeader;
  }
  // Segments larger than the MTU are taken as they are: the stream has no use for the cuts. Datagrams would
  // need them.
  const std::uint8_t gso = vnet.gso_type & static_cast<std::uint8_t>(~VnetHeader::kGsoEcn);
  if (gso != VnetHeader::kGsoNone && gso != VnetHeader::kGsoTcpv4 && gso != VnetHeader::kGsoTcpv6)
    return Drop::kBadVnetHeader;
  IpPacket packet;
  Drop drop = Drop::kNone;
  switch (ethernet->type.get()) {
    case kEtherTypeArp:
      return responders_.on_arp(reader.rest());
    case kEtherTypeIpv4:
      drop = parse_ipv4(reader.rest(), packet);
      break;
    case kEtherTypeIpv6:
      drop = parse_ipv6(reader.rest(), packet);
      break;
    default:
      return Drop::kUnknownEtherType;
  }
  if (drop != Drop::kNone) return drop;
  if (gso != VnetHeader::kGsoNone && packet.protocol != kIpProtocolTcp) return Drop::kBadVnetHeader;
  return packet.is_fragment ? take_fragment(packet) : take_packet(packet, checksum);
}

Drop Stack::take_fragment(const IpPacket& packet) {
  const IpAddress own = s_.link.guest_address(packet.source.family());
  if (own.is_unspecified() || packet.source != own) return Drop::kSpoofedAddress;
  Drop drop = Drop::kNone;
  const auto whole = reassembler_.add(packet, loop_.now(), drop);
  if (!whole) return drop;
  IpPacket complete = packet;
  complete.is_fragment = false;
  complete.more_fragments = false;
  complete.fragment_offset = 0;
  complete.protocol = whole->protocol;
  complete.payload = whole->bytes;
  // For error messages, which quote the packet, a header of the whole is made anew.
  ByteWriter quoted;
  const std::size_t quote = std::min<std::size_t>(whole->bytes.size(), 512);
  put_ip_header(quoted, packet.source, packet.destination, whole->protocol, quote);
  quoted.put_bytes(ByteView(whole->bytes).first(quote));
  complete.whole = quoted.view();
  return take_packet(complete, Checksum::kVerify);
}

Drop Stack::take_packet(const IpPacket& packet, Checksum checksum) {
  const IpAddress own = s_.link.guest_address(packet.source.family());
  if (own.is_unspecified()) return Drop::kSpoofedAddress;
  UdpDatagram datagram;
  const bool v6 = packet.source.is_v6();
  if (packet.source != own) {
    // Before it has its address: DHCP from 0.0.0.0, neighbour discovery from :: or a link-local address.
    if (!v6 && packet.source.is_unspecified() && packet.protocol == kIpProtocolUdp) {
      if (const Drop drop = parse_udp(packet, checksum, datagram); drop != Drop::kNone) return drop;
      if (datagram.source_port == kDhcpClientPort && datagram.destination_port == kDhcpServerPort)
        return responders_.on_dhcp(datagram.payload);
      return Drop::kSpoofedAddress;
    }
    const bool local = packet.source.is_unspecified() ||
                       (packet.source.raw()[0] == 0xfe && (packet.source.raw()[1] & 0xc0) == 0x80);
    if (!v6 || !local || packet.protocol != kIpProtocolIcmpv6) return Drop::kSpoofedAddress;
    IcmpMessage message;
    if (const Drop drop = parse_icmp(packet, message); drop != Drop::kNone) return drop;
    const Drop drop = responders_.on_ndp(packet, message);
    return drop == Drop::kUnknownProtocol ? Drop::kSpoofedAddress : drop;
  }
  if (packet.destination == own) return Drop::kSpoofedAddress;
  switch (packet.protocol) {
    case kIpProtocolTcp:
      if (is_group(packet.destination)) return Drop::kMulticast;
      s_.tcp.on_packet(packet, checksum);
      return Drop::kNone;
    case kIpProtocolUdp: {
      if (const Drop drop = parse_udp(packet, checksum, datagram); drop != Drop::kNone) return drop;
      if (!v6 && datagram.source_port == kDhcpClientPort && datagram.destination_port == kDhcpServerPort)
        return responders_.on_dhcp(datagram.payload);
      if (is_group(packet.destination)) return Drop::kMulticast;
      s_.udp.on_packet(packet, datagram);
      return Drop::kNone;
    }
    case kIpProtocolIcmp:
    case kIpProtocolIcmpv6: {
      IcmpMessage message;
      if (const Drop drop = parse_icmp(packet, message); drop != Drop::kNone) return drop;
      if (v6) {
        const Drop drop = responders_.on_ndp(packet, message);
        if (drop != Drop::kUnknownProtocol) return drop;
      }
      if (is_group(packet.destination)) return Drop::kMulticast;
      s_.icmp.on_packet(packet, message);
      return Drop::kNone;
    }
    default:
      break;
  }
  if (is_group(packet.destination)) return Drop::kMulticast;
  s_.link.send_packet(
      make_icmp_error(s_.link.gateway(packet.source.family()), packet, Unreachable::kProtocol));
  return Drop::kUnknownProtocol;
}

}  // namespace msb::net
