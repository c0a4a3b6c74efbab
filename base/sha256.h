// SPDX-License-Identifier: Apache-2.0
// SHA-256 (FIPS 180-4) for short inputs: names and keys. Programs that hash whole layers use OpenSSL, which
// has the processor's SHA instructions; this one exists so that the hot path need not load a crypto library.
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "base/bytes.h"

namespace msb {

using Sha256Sum = std::array<std::uint8_t, 32>;

[[nodiscard]] Sha256Sum sha256(ByteView data);
// Lower-case hexadecimal of any bytes.
[[nodiscard]] std::string to_hex(ByteView data);
// sha256 of the bytes of `text`, 64 lower-case hexadecimal digits.
[[nodiscard]] std::string sha256_hex(std::string_view text);

}  // namespace msb
