// SPDX-License-Identifier: Apache-2.0
// IP addresses and prefixes as values: strict parsing and canonical text (RFC 4291, RFC 5952). No scope ids,
// no octal or hexadecimal IPv4 forms, no shortened dotted quads: what two parsers might read differently is
// refused.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace msb {

class IpAddress {
 public:
  enum class Family : std::uint8_t { kV4 = 4, kV6 = 6 };

  constexpr IpAddress() = default;  // 0.0.0.0
  [[nodiscard]] static constexpr IpAddress v4(std::uint32_t value) {
    IpAddress out;
    for (std::size_t i = 0; i < 4; ++i) out.bytes_[i] = static_cast<std::uint8_t>(value >> (24 - 8 * i));
    return out;
  }
  [[nodiscard]] static constexpr IpAddress v6(const std::array<std::uint8_t, 16>& bytes) {
    IpAddress out;
    out.family_ = Family::kV6;
    out.bytes_ = bytes;
    return out;
  }
  // From 4 or 16 bytes in network order; any other length is nullopt.
  [[nodiscard]] static std::optional<IpAddress> from_bytes(std::span<const std::uint8_t> bytes);
  // "1.2.3.4" or an IPv6 text without brackets and scope. nullopt for anything else.
  [[nodiscard]] static std::optional<IpAddress> parse(std::string_view text);

  [[nodiscard]] constexpr Family family() const { return family_; }
  [[nodiscard]] constexpr bool is_v4() const { return family_ == Family::kV4; }
  [[nodiscard]] constexpr bool is_v6() const { return family_ == Family::kV6; }
  // 4 or 16 bytes in network order.
  [[nodiscard]] std::span<const std::uint8_t> bytes() const { return {bytes_.data(), is_v4() ? 4U : 16U}; }
  [[nodiscard]] constexpr const std::array<std::uint8_t, 16>& raw() const { return bytes_; }
  // Host-order value; only for IPv4.
  [[nodiscard]] constexpr std::uint32_t v4_value() const {
    return static_cast<std::uint32_t>(bytes_[0]) << 24 | static_cast<std::uint32_t>(bytes_[1]) << 16 |
           static_cast<std::uint32_t>(bytes_[2]) << 8 | static_cast<std::uint32_t>(bytes_[3]);
  }
  [[nodiscard]] constexpr unsigned bit_length() const { return is_v4() ? 32 : 128; }
  [[nodiscard]] bool is_unspecified() const;
  // RFC 5952 text for IPv6.
  [[nodiscard]] std::string text() const;

  friend constexpr auto operator<=>(const IpAddress&, const IpAddress&) = default;

 private:
  Family family_ = Family::kV4;
  std::array<std::uint8_t, 16> bytes_{};
};

// An address range "address/length". Bits beyond the length are zero in a value made by parse() or make().
struct IpPrefix {
  IpAddress address;
  std::uint8_t length = 0;

  // Clears the bits beyond `length`; nullopt if it exceeds the family's bits.
  [[nodiscard]] static std::optional<IpPrefix> make(const IpAddress& address, unsigned length);
  // "a/len" or a bare address (full length).
  [[nodiscard]] static std::optional<IpPrefix> parse(std::string_view text);
  [[nodiscard]] bool contains(const IpAddress& candidate) const;
  // True if every address of `inner` lies in this prefix.
  [[nodiscard]] bool contains(const IpPrefix& inner) const;
  [[nodiscard]] bool is_single() const { return length == address.bit_length(); }
  [[nodiscard]] std::string text() const;
  friend constexpr auto operator<=>(const IpPrefix&, const IpPrefix&) = default;
};

// "1.2.3.4:80" / "[::1]:80".
[[nodiscard]] std::string endpoint_text(const IpAddress& address, std::uint16_t port);
// Decimal 0..65535 without sign, blanks or leading zeros (except "0").
[[nodiscard]] std::optional<std::uint16_t> parse_port(std::string_view text);

}  // namespace msb
