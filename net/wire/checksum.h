// SPDX-License-Identifier: Apache-2.0
// The Internet checksum (RFC 1071) and the pseudo-headers of IPv4 and IPv6 (RFC 9293 3.1, RFC 8200 8.1).
#pragma once

#include <cstdint>

#include "base/bytes.h"
#include "base/ip_address.h"

namespace msb::net {

// Adds bytes to a running one's complement sum kept in host word order. Ranges after one of odd length must
// not be added: every range but the last has even length.
class ChecksumSum {
 public:
  void add(ByteView bytes);
  // A 16-bit value as it would stand on the wire.
  void add_u16(std::uint16_t value) { sum_ += static_cast<std::uint64_t>(__builtin_bswap16(value)); }
  // Like add(), for a range that begins at an odd offset of the whole.
  void add_at_odd_offset(ByteView bytes);
  // Source, destination, protocol and length of the pseudo-header.
  void add_pseudo_header(const IpAddress& source, const IpAddress& destination, std::uint8_t protocol,
                         std::uint32_t length);
  // The folded sum in wire order, not complemented (what a partial checksum field holds).
  [[nodiscard]] std::uint16_t partial() const;
  // The checksum to store as a big-endian value; 0 over data that includes a right checksum.
  [[nodiscard]] std::uint16_t finish() const { return static_cast<std::uint16_t>(~partial()); }

 private:
  std::uint64_t sum_ = 0;
};

}  // namespace msb::net
