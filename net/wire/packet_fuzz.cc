// SPDX-License-Identifier: Apache-2.0
// An IP packet and what it carries: every view lies inside the bytes, and an ICMP error about it is a packet
// that our own parsers take. The first byte chooses the family and whether checksums count.
#include <cstdlib>

#include "net/wire/ethernet.h"
#include "net/wire/transport.h"

namespace {

using namespace msb::net;  // NOLINT: a fuzz target is one file
using msb::ByteView;

void within(ByteView inner, ByteView outer) {
  if (inner.empty()) return;
  if (inner.data() < outer.data() || inner.data() + inner.size() > outer.data() + outer.size()) std::abort();
}

void check_error(const IpPacket& packet) {
  const auto sender =
      packet.source.is_v6() ? msb::IpAddress::parse("fd00::1") : msb::IpAddress::parse("10.0.0.1");
  const msb::Bytes error = make_icmp_error(*sender, packet, Unreachable::kPort);
  if (error.empty()) return;  // about an error, or to no single sender
  IpPacket parsed;
  const Drop drop = packet.source.is_v6() ? parse_ipv6(error, parsed) : parse_ipv4(error, parsed);
  IcmpMessage message;
  // A source that can be no destination makes an answer that nobody parses.
  if (drop == Drop::kNone && parse_icmp(parsed, message) != Drop::kNone) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const ByteView bytes(data + 1, size - 1);
  (void)parse_arp(bytes);
  IpPacket packet;
  const Drop drop = (data[0] & 1) != 0 ? parse_ipv6(bytes, packet) : parse_ipv4(bytes, packet);
  if (drop != Drop::kNone) return 0;
  within(packet.whole, bytes);
  within(packet.payload, packet.whole);
  if (packet.is_fragment) return 0;
  const Checksum checksum = (data[0] & 2) != 0 ? Checksum::kTrusted : Checksum::kVerify;
  UdpDatagram datagram;
  TcpSegment segment;
  IcmpMessage message;
  if (packet.protocol == kIpProtocolUdp && parse_udp(packet, checksum, datagram) == Drop::kNone)
    within(datagram.payload, packet.payload);
  if (packet.protocol == kIpProtocolTcp && parse_tcp(packet, checksum, segment) == Drop::kNone)
    within(segment.payload, packet.payload);
  if (parse_icmp(packet, message) == Drop::kNone) within(message.body, packet.payload);
  check_error(packet);
  return 0;
}
