// SPDX-License-Identifier: Apache-2.0
// UDP (RFC 768), TCP (RFC 9293) and ICMP (RFC 792, RFC 4443) headers: checked parsing and fixed layouts.
#pragma once

#include <cstdint>
#include <optional>

#include "base/bytes.h"
#include "base/ip_address.h"
#include "base/wire.h"
#include "net/wire/drop.h"
#include "net/wire/ip.h"

namespace msb::net {

// Whether the sender vouched for the checksum (offload) or it has to be verified.
enum class Checksum : std::uint8_t { kVerify, kTrusted };

struct UdpHeader {
  Be16 source_port;
  Be16 destination_port;
  Be16 length;
  Be16 checksum;
};
static_assert(sizeof(UdpHeader) == 8 && WireStruct<UdpHeader>);

struct UdpDatagram {
  std::uint16_t source_port = 0;
  std::uint16_t destination_port = 0;
  ByteView payload;
};
[[nodiscard]] Drop parse_udp(const IpPacket& packet, Checksum checksum, UdpDatagram& out);

struct TcpHeader {
  Be16 source_port;
  Be16 destination_port;
  Be32 sequence;
  Be32 acknowledgment;
  std::uint8_t offset = 5 << 4;
  std::uint8_t flags = 0;
  Be16 window;
  Be16 checksum;
  Be16 urgent;
};
static_assert(sizeof(TcpHeader) == 20 && WireStruct<TcpHeader>);

inline constexpr std::uint8_t kTcpFin = 0x01;
inline constexpr std::uint8_t kTcpSyn = 0x02;
inline constexpr std::uint8_t kTcpRst = 0x04;
inline constexpr std::uint8_t kTcpPsh = 0x08;
inline constexpr std::uint8_t kTcpAck = 0x10;
inline constexpr std::uint8_t kTcpUrg = 0x20;

struct TcpSegment {
  std::uint16_t source_port = 0;
  std::uint16_t destination_port = 0;
  std::uint32_t sequence = 0;
  std::uint32_t acknowledgment = 0;
  std::uint8_t flags = 0;
  std::uint16_t window = 0;          // as on the wire, unscaled
  std::optional<std::uint16_t> mss;  // options of a SYN
  std::optional<std::uint8_t> window_scale;
  ByteView payload;
  [[nodiscard]] bool has(std::uint8_t flag) const { return (flags & flag) != 0; }
};
// Options with impossible lengths make the segment kBadHeader; unknown ones are skipped.
[[nodiscard]] Drop parse_tcp(const IpPacket& packet, Checksum checksum, TcpSegment& out);

struct IcmpHeader {
  std::uint8_t type = 0;
  std::uint8_t code = 0;
  Be16 checksum;
  Be32 rest;  // echo: id, sequence; unreachable: unused or MTU
};
static_assert(sizeof(IcmpHeader) == 8 && WireStruct<IcmpHeader>);

inline constexpr std::uint8_t kIcmpEchoReply = 0;
inline constexpr std::uint8_t kIcmpUnreachable = 3;
inline constexpr std::uint8_t kIcmpEchoRequest = 8;
inline constexpr std::uint8_t kIcmpTimeExceeded = 11;
inline constexpr std::uint8_t kIcmpv6Unreachable = 1;
inline constexpr std::uint8_t kIcmpv6PacketTooBig = 2;
inline constexpr std::uint8_t kIcmpv6TimeExceeded = 3;
inline constexpr std::uint8_t kIcmpv6EchoRequest = 128;
inline constexpr std::uint8_t kIcmpv6EchoReply = 129;
inline constexpr std::uint8_t kNdpRouterSolicitation = 133;
inline constexpr std::uint8_t kNdpRouterAdvertisement = 134;
inline constexpr std::uint8_t kNdpNeighborSolicitation = 135;
inline constexpr std::uint8_t kNdpNeighborAdvertisement = 136;

struct IcmpMessage {
  std::uint8_t type = 0;
  std::uint8_t code = 0;
  std::uint16_t id = 0;        // of an echo
  std::uint16_t sequence = 0;  // of an echo
  ByteView body;               // behind the 8 header bytes
};
// For both versions; the version follows from the packet's family, which must agree with its protocol.
[[nodiscard]] Drop parse_icmp(const IpPacket& packet, IcmpMessage& out);

// Why a packet is refused, in the words of both ICMP versions.
enum class Unreachable : std::uint8_t { kNetwork, kHost, kPort, kAdminProhibited, kProtocol };
// An ICMP error about `offending` (a whole IP packet of the guest's), complete with its IP header, from
// `sender`. Empty where ICMP forbids an error (RFC 1122 3.2.2, RFC 4443 2.4): about ICMP errors, fragments
// but the first, group or unspecified addresses.
[[nodiscard]] Bytes make_icmp_error(const IpAddress& sender, const IpPacket& offending, Unreachable why);
// A complete ICMP message packet (echo reply, advertisement): IP header, ICMP header, body.
[[nodiscard]] Bytes make_icmp(const IpAddress& source, const IpAddress& destination, std::uint8_t type,
                              std::uint8_t code, std::uint32_t rest, ByteView body,
                              std::uint8_t hop_limit = 64);

}  // namespace msb::net
