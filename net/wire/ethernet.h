// SPDX-License-Identifier: Apache-2.0
// Ethernet II headers and ARP for IPv4 (RFC 826): fixed layouts, copied in and out as they are.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "base/wire.h"

namespace msb::net {

using MacAddress = std::array<std::uint8_t, 6>;

inline constexpr MacAddress kBroadcastMac{0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
inline constexpr std::uint16_t kEtherTypeIpv4 = 0x0800;
inline constexpr std::uint16_t kEtherTypeArp = 0x0806;
inline constexpr std::uint16_t kEtherTypeIpv6 = 0x86dd;

struct EthernetHeader {
  MacAddress destination{};
  MacAddress source{};
  Be16 type;
};
static_assert(sizeof(EthernetHeader) == 14 && WireStruct<EthernetHeader>);

struct ArpPacket {
  static constexpr std::uint16_t kRequest = 1;
  static constexpr std::uint16_t kReply = 2;
  Be16 hardware_type = 1;
  Be16 protocol_type = kEtherTypeIpv4;
  std::uint8_t hardware_length = 6;
  std::uint8_t protocol_length = 4;
  Be16 operation;
  MacAddress sender_mac{};
  Be32 sender_ip;
  MacAddress target_mac{};
  Be32 target_ip;
};
static_assert(sizeof(ArpPacket) == 28 && WireStruct<ArpPacket>);

// The packet if it is ARP for IPv4 over Ethernet and whole; else nullopt.
[[nodiscard]] inline std::optional<ArpPacket> parse_arp(ByteView bytes) {
  ByteReader reader(bytes);
  const auto arp = reader.take<ArpPacket>();
  if (!arp || arp->hardware_type.get() != 1 || arp->protocol_type.get() != kEtherTypeIpv4 ||
      arp->hardware_length != 6 || arp->protocol_length != 4) {
    return std::nullopt;
  }
  return arp;
}

// "02:6d:73:62:00:01"; any other shape is nullopt.
[[nodiscard]] std::optional<MacAddress> parse_mac(std::string_view text);
[[nodiscard]] std::string mac_text(const MacAddress& mac);

}  // namespace msb::net
