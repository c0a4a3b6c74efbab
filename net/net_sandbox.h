// SPDX-License-Identifier: Apache-2.0
// The rights msb-net keeps while it looks at the guest's bytes: sockets, its event loop, its open files; no
// paths, no programs, no capabilities.
#pragma once

#include <cstdint>

#include "base/result.h"

namespace msb::net {

enum class Confinement : std::uint8_t {
  kAuto,     // every layer this host offers
  kRequire,  // an error if one is missing
  kOff,      // none: for debuggers only
};
// Single-threaded; irreversible.
[[nodiscard]] Status confine_net_process(Confinement mode);

}  // namespace msb::net
