// SPDX-License-Identifier: Apache-2.0
#include "oci/tar_numbers.h"

namespace msb::oci {
namespace {
constexpr std::uint32_t kNanosecondsPerSecond = 1'000'000'000;
}

std::optional<std::int64_t> parse_tar_number(ByteView field) {
  if (field.empty()) return std::nullopt;
  if ((field[0] & 0x80) != 0) {
    // The bit under the marker is the sign; all bytes but the last eight must repeat it.
    const bool negative = (field[0] & 0x40) != 0;
    const std::uint8_t fill = negative ? 0xff : 0;
    std::uint64_t value = negative ? UINT64_MAX : 0;
    for (std::size_t i = 0; i < field.size(); ++i) {
      const std::uint8_t byte =
          i == 0 ? static_cast<std::uint8_t>((field[0] & 0x7f) | (fill & 0x80)) : field[i];
      if ((value >> 56) != fill) return std::nullopt;
      value = value << 8 | byte;
    }
    if (((value >> 63) != 0) != negative) return std::nullopt;
    return static_cast<std::int64_t>(value);
  }
  std::size_t i = 0;
  while (i < field.size() && field[i] == ' ') ++i;
  std::int64_t value = 0;
  for (; i < field.size() && field[i] != ' ' && field[i] != 0; ++i) {
    if (field[i] < '0' || field[i] > '7') return std::nullopt;
    if (value > INT64_MAX / 8) return std::nullopt;
    value = value * 8 + (field[i] - '0');
  }
  for (; i < field.size(); ++i) {
    if (field[i] != ' ' && field[i] != 0) return std::nullopt;
  }
  return value;
}

std::optional<std::uint64_t> parse_decimal(std::string_view text) {
  if (text.empty() || text.size() > 20) return std::nullopt;
  std::uint64_t value = 0;
  for (const char c : text) {
    if (c < '0' || c > '9') return std::nullopt;
    if (__builtin_mul_overflow(value, std::uint64_t{10}, &value) ||
        __builtin_add_overflow(value, static_cast<std::uint64_t>(c - '0'), &value)) {
      return std::nullopt;
    }
  }
  return value;
}

std::optional<PaxTime> parse_pax_time(std::string_view text) {
  const bool negative = text.starts_with('-');
  if (negative) text.remove_prefix(1);
  const std::size_t dot = text.find('.');
  const auto whole = parse_decimal(text.substr(0, dot));
  if (!whole || *whole > static_cast<std::uint64_t>(INT64_MAX) - 1) return std::nullopt;
  std::uint32_t nanoseconds = 0;
  if (dot != std::string_view::npos) {
    std::uint32_t unit = kNanosecondsPerSecond / 10;
    for (const char c : text.substr(dot + 1)) {
      if (c < '0' || c > '9') return std::nullopt;
      nanoseconds += static_cast<std::uint32_t>(c - '0') * unit;
      unit /= 10;
    }
  }
  PaxTime time{static_cast<std::int64_t>(*whole), nanoseconds};
  if (negative) {
    time.seconds = -time.seconds;
    if (nanoseconds != 0) {
      time.seconds -= 1;
      time.nanoseconds = kNanosecondsPerSecond - nanoseconds;
    }
  }
  return time;
}

}  // namespace msb::oci
