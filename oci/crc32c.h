// SPDX-License-Identifier: Apache-2.0
// CRC-32C (Castagnoli, reflected) without final inversion, as EROFS and ext4 keep it.
#pragma once

#include <cstdint>

#include "base/bytes.h"

namespace msb::oci {

// Continue with the result as `seed`; filesystems begin with ~0.
[[nodiscard]] std::uint32_t crc32c(std::uint32_t seed, ByteView data);

}  // namespace msb::oci
