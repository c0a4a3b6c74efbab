// SPDX-License-Identifier: Apache-2.0
// The rights msb-net keeps while it looks at the guest's bytes: sockets, its event loop, its open files; no
// paths but the host's resolver configuration, no programs, no capabilities.
#pragma once

#include <cstdint>

#include "base/result.h"

namespace msb::net {

enum class Confinement : std::uint8_t {
  kAuto,     // every layer this host offers
  kRequire,  // an error if one is missing
  kOff,      // none: for debuggers only
};
// `etc_fd`: an O_PATH descriptor of /etc that stays readable, or -1. Single-threaded; irreversible.
[[nodiscard]] Status confine_net_process(Confinement mode, int etc_fd);

}  // namespace msb::net
