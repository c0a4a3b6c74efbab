// SPDX-License-Identifier: Apache-2.0
// Numbers as tar headers write them. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "base/bytes.h"

namespace msb::oci {

// Octal digits between optional blanks and ended by blank, NUL or the field's end; all blank is 0. With the
// top bit of the first byte set: GNU base-256, two's complement, big-endian. nullopt if it is neither or does
// not fit.
[[nodiscard]] std::optional<std::int64_t> parse_tar_number(ByteView field);

// Decimal digits only, no sign, no blanks.
[[nodiscard]] std::optional<std::uint64_t> parse_decimal(std::string_view text);

struct PaxTime {
  std::int64_t seconds = 0;       // rounded down, so that
  std::uint32_t nanoseconds = 0;  // this is never negative: -0.25 is {-1, 750000000}
};
// "[-]digits[.digits]"; digits beyond nanoseconds are cut off.
[[nodiscard]] std::optional<PaxTime> parse_pax_time(std::string_view text);

}  // namespace msb::oci
