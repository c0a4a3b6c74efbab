// SPDX-License-Identifier: Apache-2.0
#include "net/wire/transport.h"

#include <algorithm>
#include <cstring>

#include "net/wire/checksum.h"

namespace msb::net {
namespace {

bool checksum_right(const IpPacket& packet) {
  ChecksumSum sum;
  sum.add_pseudo_header(packet.source, packet.destination, packet.protocol,
                        static_cast<std::uint32_t>(packet.payload.size()));
  sum.add(packet.payload);
  return sum.finish() == 0;
}

constexpr std::uint8_t kOptionEnd = 0;
constexpr std::uint8_t kOptionNop = 1;
constexpr std::uint8_t kOptionMss = 2;
constexpr std::uint8_t kOptionWindowScale = 3;

Drop parse_tcp_options(ByteView options, TcpSegment& out) {
  std::size_t at = 0;
  while (at < options.size()) {
    const std::uint8_t kind = options[at];
    if (kind == kOptionEnd) return Drop::kNone;
    if (kind == kOptionNop) {
      ++at;
      continue;
    }
    if (options.size() - at < 2) return Drop::kBadHeader;
    const std::size_t length = options[at + 1];
    if (length < 2 || length > options.size() - at) return Drop::kBadHeader;
    if (kind == kOptionMss) {
      if (length != 4) return Drop::kBadHeader;
      out.mss = static_cast<std::uint16_t>(options[at + 2] << 8 | options[at + 3]);
    } else if (kind == kOptionWindowScale) {
      if (length != 3) return Drop::kBadHeader;
      out.window_scale = std::min<std::uint8_t>(options[at + 2], 14);  // RFC 7323 section 2.3
    }
    at += length;
  }
  return Drop::kNone;
}

}  // namespace

Drop parse_udp(const IpPacket& packet, Checksum checksum, UdpDatagram& out) {
  ByteReader reader(packet.payload);
  const auto header = reader.take<UdpHeader>();
  if (!header) return Drop::kTruncated;
  const std::size_t length = header->length.get();
  if (length < sizeof(UdpHeader)) return Drop::kBadHeader;
  if (length > packet.payload.size()) return Drop::kTruncated;
  if (length != packet.payload.size()) return Drop::kBadHeader;  // hidden bytes behind the datagram
  if (header->checksum.get() == 0) {
    if (packet.source.is_v6()) return Drop::kBadChecksum;  // RFC 8200 8.1: mandatory
  } else if (checksum == Checksum::kVerify && !checksum_right(packet)) {
    return Drop::kBadChecksum;
  }
  out.source_port = header->source_port.get();
  out.destination_port = header->destination_port.get();
  if (out.source_port == 0 || out.destination_port == 0) return Drop::kBadHeader;
  out.payload = reader.rest();
  return Drop::kNone;
}

Drop parse_tcp(const IpPacket& packet, Checksum checksum, TcpSegment& out) {
  ByteReader reader(packet.payload);
  const auto header = reader.take<TcpHeader>();
  if (!header) return Drop::kTruncated;
  const std::size_t offset = static_cast<std::size_t>(header->offset >> 4) * 4;
  if (offset < sizeof(TcpHeader)) return Drop::kBadHeader;
  if (offset > packet.payload.size()) return Drop::kTruncated;
  if (checksum == Checksum::kVerify && !checksum_right(packet)) return Drop::kBadChecksum;
  out.source_port = header->source_port.get();
  out.destination_port = header->destination_port.get();
  if (out.source_port == 0 || out.destination_port == 0) return Drop::kBadHeader;
  out.sequence = header->sequence.get();
  out.acknowledgment = header->acknowledgment.get();
  out.flags = header->flags;
  out.window = header->window.get();
  out.mss.reset();
  out.window_scale.reset();
  out.payload = packet.payload.subspan(offset);
  if (out.has(kTcpSyn) && (out.has(kTcpFin) || out.has(kTcpRst))) return Drop::kBadHeader;
  if (!out.has(kTcpSyn)) return Drop::kNone;
  return parse_tcp_options(packet.payload.subspan(sizeof(TcpHeader), offset - sizeof(TcpHeader)), out);
}

Drop parse_icmp(const IpPacket& packet, IcmpMessage& out) {
  if (packet.protocol != (packet.source.is_v4() ? kIpProtocolIcmp : kIpProtocolIcmpv6))
    return Drop::kUnknownProtocol;
  ByteReader reader(packet.payload);
  const auto header = reader.take<IcmpHeader>();
  if (!header) return Drop::kTruncated;
  ChecksumSum sum;
  if (packet.source.is_v6()) {
    sum.add_pseudo_header(packet.source, packet.destination, kIpProtocolIcmpv6,
                          static_cast<std::uint32_t>(packet.payload.size()));
  }
  sum.add(packet.payload);
  if (sum.finish() != 0) return Drop::kBadChecksum;
  out.type = header->type;
  out.code = header->code;
  out.id = static_cast<std::uint16_t>(header->rest.get() >> 16);
  out.sequence = static_cast<std::uint16_t>(header->rest.get());
  out.body = reader.rest();
  return Drop::kNone;
}

Bytes make_icmp(const IpAddress& source, const IpAddress& destination, std::uint8_t type, std::uint8_t code,
                std::uint32_t rest, ByteView body, std::uint8_t hop_limit) {
  IcmpHeader header;
  header.type = type;
  header.code = code;
  header.rest = rest;
  const bool v6 = source.is_v6();
  const std::size_t length = sizeof header + body.size();
  ByteWriter out;
  put_ip_header(out, source, destination, v6 ? kIpProtocolIcmpv6 : kIpProtocolIcmp, length, hop_limit);
  const std::size_t start = out.size();
  out.put(header);
  out.put_bytes(body);
  ChecksumSum sum;
  if (v6) sum.add_pseudo_header(source, destination, kIpProtocolIcmpv6, static_cast<std::uint32_t>(length));
  sum.add(out.view().subspan(start));
  header.checksum = sum.finish();
  std::memcpy(out.at(start, sizeof header).data(), &header, sizeof header);
  return std::move(out).take();
}

Bytes make_icmp_error(const IpAddress& sender, const IpPacket& offending, Unreachable why) {
  const bool v6 = offending.source.is_v6();
  if (sender.family() != offending.source.family()) return {};
  if (offending.fragment_offset != 0 || offending.source.is_unspecified()) return {};
  const std::uint8_t first = offending.destination.raw()[0];
  if (v6 ? first == 0xff : first >= 224) return {};
  if (offending.protocol == (v6 ? kIpProtocolIcmpv6 : kIpProtocolIcmp)) {
    if (offending.payload.empty()) return {};
    const std::uint8_t type = offending.payload[0];
    const bool query = v6 ? type == kIcmpv6EchoRequest : type == kIcmpEchoRequest;
    if (!query) return {};
  }
  std::uint8_t code = 0;
  switch (why) {
    case Unreachable::kNetwork:
      code = 0;
      break;
    case Unreachable::kHost:
      code = v6 ? 3 : 1;
      break;
    case Unreachable::kPort:
      code = v6 ? 4 : 3;
      break;
    case Unreachable::kAdminProhibited:
      code = v6 ? 1 : 13;
      break;
    case Unreachable::kProtocol:
      code = v6 ? 0 : 2;
      break;
  }
  // As much of the packet as fits the smallest MTU (RFC 4443 2.4c); IPv4 senders quote at most 576 bytes.
  const std::size_t quote = std::min<std::size_t>(offending.whole.size(), v6 ? 1280 - 48 : 576 - 28);
  return make_icmp(sender, offending.source, v6 ? kIcmpv6Unreachable : kIcmpUnreachable, code, 0,
                   offending.whole.first(quote));
}

}  // namespace msb::net
