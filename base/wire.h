// SPDX-License-Identifier: Apache-2.0
// Integers of fixed byte order for wire and disk structures: alignment 1, no padding, explicit get/set.
// A structure made only of these and of byte arrays may be copied to and from memory as it is.
#pragma once

#include <array>
#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

namespace msb {

static_assert(std::endian::native == std::endian::little, "the wire types assume a little-endian host");

template <std::unsigned_integral T>
[[nodiscard]] constexpr T byte_swap(T value) {
  if constexpr (sizeof(T) == 1) return value;
  if constexpr (sizeof(T) == 2) return static_cast<T>(__builtin_bswap16(value));
  if constexpr (sizeof(T) == 4) return __builtin_bswap32(value);
  if constexpr (sizeof(T) == 8) return __builtin_bswap64(value);
}

template <std::unsigned_integral T, bool kBig>
class WireInt {
 public:
  constexpr WireInt() = default;
  constexpr WireInt(T value) { set(value); }
  [[nodiscard]] constexpr T get() const {
    const T raw = std::bit_cast<T>(bytes_);
    return kBig ? byte_swap(raw) : raw;
  }
  constexpr void set(T value) {
    bytes_ = std::bit_cast<std::array<std::uint8_t, sizeof(T)>>(kBig ? byte_swap(value) : value);
  }
  friend constexpr bool operator==(const WireInt&, const WireInt&) = default;

 private:
  std::array<std::uint8_t, sizeof(T)> bytes_{};
};

using Le16 = WireInt<std::uint16_t, false>;
using Le32 = WireInt<std::uint32_t, false>;
using Le64 = WireInt<std::uint64_t, false>;
using Be16 = WireInt<std::uint16_t, true>;
using Be32 = WireInt<std::uint32_t, true>;
using Be64 = WireInt<std::uint64_t, true>;

// What may be copied byte for byte between memory and the outside.
template <typename T>
concept WireStruct = std::is_trivially_copyable_v<T> && std::is_standard_layout_v<T> && alignof(T) == 1;

}  // namespace msb
