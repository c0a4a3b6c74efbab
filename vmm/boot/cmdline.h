// SPDX-License-Identifier: Apache-2.0
// The kernel's command line: our words, one per device, then the sandbox's own. Pure.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace msb::vmm {

struct CmdlineRequest {
  std::uint32_t virtio_devices =
      0;  // device n has its registers at kVirtioMmioBase + n * stride, pin first + n
  std::uint32_t cpus_online = 1;
  std::uint32_t cpus_max = 1;
  std::string_view extra;  // appended as it is; printable ASCII
};

// kInvalid when `extra` has bytes that are not printable ASCII or tries to name another device; kLimit when
// the line is longer than the kernel takes (2047 bytes).
[[nodiscard]] Result<std::string> build_cmdline(const CmdlineRequest& request);

}  // namespace msb::vmm
