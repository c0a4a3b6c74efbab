// SPDX-License-Identifier: Apache-2.0
// Base64 (RFC 4648 section 4, with padding) and lower-case hex.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/bytes.h"

namespace msb {
[[nodiscard]] std::string base64_encode(ByteView bytes);
// Strict: canonical padding, no white space, no stray bits; nullopt otherwise.
[[nodiscard]] std::optional<Bytes> base64_decode(std::string_view text);
[[nodiscard]] std::string hex_encode(ByteView bytes);
}  // namespace msb
