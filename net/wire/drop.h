// SPDX-License-Identifier: Apache-2.0
// Why a frame was not acted upon. Every frame from the guest either leads to something or is counted here.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace msb::net {

enum class Drop : std::uint8_t {
  kNone,       // accepted
  kTruncated,  // shorter than its headers say
  kBadHeader,  // a field that the protocol does not allow
  kBadChecksum,
  kBadVnetHeader,
  kSpoofedMac,      // source is not the guest's, or destination neither the gateway's nor a group
  kSpoofedAddress,  // source address is not the guest's
  kUnknownEtherType,
  kUnknownProtocol,
  kFragment,     // fragments that overlap, exceed the limits or never complete
  kSourceRoute,  // routing headers
  kMulticast,    // group destinations that no responder serves
  kDenied,       // by policy
  kLimit,        // flow, packet-rate or queue limit
  kNoFlow,       // belongs to nothing that exists
  kOutputFull,   // towards the guest: its queue is full
  kCount,
};

[[nodiscard]] constexpr std::string_view drop_name(Drop reason) {
  switch (reason) {
    case Drop::kNone:
      return "none";
    case Drop::kTruncated:
      return "truncated";
    case Drop::kBadHeader:
      return "bad_header";
    case Drop::kBadChecksum:
      return "bad_checksum";
    case Drop::kBadVnetHeader:
      return "bad_vnet_header";
    case Drop::kSpoofedMac:
      return "spoofed_mac";
    case Drop::kSpoofedAddress:
      return "spoofed_address";
    case Drop::kUnknownEtherType:
      return "unknown_ether_type";
    case Drop::kUnknownProtocol:
      return "unknown_protocol";
    case Drop::kFragment:
      return "fragment";
    case Drop::kSourceRoute:
      return "source_route";
    case Drop::kMulticast:
      return "multicast";
    case Drop::kDenied:
      return "denied";
    case Drop::kLimit:
      return "limit";
    case Drop::kNoFlow:
      return "no_flow";
    case Drop::kOutputFull:
      return "output_full";
    case Drop::kCount:
      break;
  }
  return "?";
}

}  // namespace msb::net
