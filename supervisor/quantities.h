// SPDX-License-Identifier: Apache-2.0
// Quantities as people write them: sizes, rates, durations, moments. Pure text in, numbers out; every parser
// takes exactly what it documents and says in its error what was given and what would be right.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace msb::supervisor {

// Unsigned decimal without sign or blanks that fits; nullopt otherwise.
[[nodiscard]] std::optional<std::uint64_t> parse_decimal(std::string_view text);

// A size's text in bytes, 0 included; `bare` is what a unit is worth when none is written. nullopt: not a
// size, or beyond 64 bits.
[[nodiscard]] std::optional<std::uint64_t> parse_amount_bytes(std::string_view text, std::uint64_t bare);

// "512M", "1.5G", "64GiB", "2T", "4096K"; a bare number counts MiB. Binary multiples whatever the spelling
// (K, KB, KiB, ... in any case). Rounded up to whole MiB; at least 1 MiB, at most 1 PiB.
[[nodiscard]] Result<std::uint64_t> parse_size_mib(std::string_view text);
// The shortest exact spelling parse_size_mib reads back: "512M", "2G", "1T".
[[nodiscard]] std::string format_size_mib(std::uint64_t mib);

// The same grammar in bytes: a bare number counts bytes. At most 1 PiB.
[[nodiscard]] Result<std::uint64_t> parse_size_bytes(std::string_view text);
// "10M", "10M/s", "600/1m": an amount, and the time it is for (one second). Per second, at least 1.
[[nodiscard]] Result<std::uint64_t> parse_rate(std::string_view text);

// "250ms", "90", "90s", "1h30m", "2d"; a bare number counts seconds, units go from large to small, decimals
// are allowed in the last part ("1.5h"). In milliseconds; at most 10 years.
[[nodiscard]] Result<std::int64_t> parse_duration_ms(std::string_view text);
[[nodiscard]] std::string format_duration_ms(std::int64_t ms);

// A moment for --since/--until: RFC 3339 ("2026-05-01T10:00:00Z", with fraction and offset) or a duration,
// which means that long before `now_ns`. Nanoseconds since 1970.
[[nodiscard]] Result<std::int64_t> parse_moment_ns(std::string_view text, std::int64_t now_ns);
// RFC 3339 in UTC with `digits` (0..9) of a second's fraction.
[[nodiscard]] std::string format_rfc3339(std::int64_t wall_ns, int digits = 3);

}  // namespace msb::supervisor
