// SPDX-License-Identifier: Apache-2.0
// IPv4 (RFC 791) and IPv6 (RFC 8200) packets: checked parsing into one value, and header writing.
#pragma once

#include <cstdint>

#include "base/bytes.h"
#include "base/ip_address.h"
#include "base/wire.h"
#include "net/wire/drop.h"

namespace msb::net {

inline constexpr std::uint8_t kIpProtocolIcmp = 1;
inline constexpr std::uint8_t kIpProtocolTcp = 6;
inline constexpr std::uint8_t kIpProtocolUdp = 17;
inline constexpr std::uint8_t kIpProtocolIcmpv6 = 58;

struct Ipv4Header {
  std::uint8_t version_ihl = 0x45;
  std::uint8_t tos = 0;
  Be16 total_length;
  Be16 id;
  Be16 fragment;  // flags in the top three bits
  std::uint8_t ttl = 64;
  std::uint8_t protocol = 0;
  Be16 checksum;
  Be32 source;
  Be32 destination;
};
static_assert(sizeof(Ipv4Header) == 20 && WireStruct<Ipv4Header>);

struct Ipv6Header {
  Be32 version_class_label = 0x60000000;
  Be16 payload_length;
  std::uint8_t next_header = 0;
  std::uint8_t hop_limit = 64;
  std::array<std::uint8_t, 16> source{};
  std::array<std::uint8_t, 16> destination{};
};
static_assert(sizeof(Ipv6Header) == 40 && WireStruct<Ipv6Header>);

// A parsed packet. The views borrow from the frame.
struct IpPacket {
  IpAddress source;
  IpAddress destination;
  std::uint8_t protocol = 0;  // of the payload, after IPv6 extension headers
  std::uint8_t hop_limit = 0;
  bool is_fragment = false;
  bool more_fragments = false;
  std::uint32_t fragment_id = 0;
  std::uint32_t fragment_offset = 0;  // bytes
  ByteView payload;                   // upper-layer header and data (of a fragment: its piece)
  ByteView whole;                     // from the IP header on, without link padding
};

// Parses what follows an Ethernet header. Link padding behind the packet is cut off. IPv4 options are checked
// for length and otherwise ignored, since no packet is ever forwarded as it is. Packets with routing headers
// still to be followed are refused.
[[nodiscard]] Drop parse_ipv4(ByteView bytes, IpPacket& out);
[[nodiscard]] Drop parse_ipv6(ByteView bytes, IpPacket& out);

// Appends a header for `payload_length` bytes of `protocol`; 40 or 20 bytes by the addresses' family, which
// must agree. The IPv4 checksum is filled in.
void put_ip_header(ByteWriter& out, const IpAddress& source, const IpAddress& destination,
                   std::uint8_t protocol, std::size_t payload_length, std::uint8_t hop_limit = 64);
// The same into a fixed buffer of at least 40 bytes; returns the bytes used.
[[nodiscard]] std::size_t write_ip_header(MutableBytes out, const IpAddress& source,
                                          const IpAddress& destination, std::uint8_t protocol,
                                          std::size_t payload_length, std::uint8_t hop_limit = 64);

}  // namespace msb::net
