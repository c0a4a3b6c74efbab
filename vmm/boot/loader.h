// SPDX-License-Identifier: Apache-2.0
// Puts kernel, initial ramdisk and boot data into guest RAM.
#pragma once

#include <cstdint>
#include <string_view>

#include "base/bytes.h"
#include "base/result.h"
#include "vmm/arch/x86_64/mptable.h"
#include "vmm/boot/start_info.h"
#include "vmm/memory/guest_memory.h"

namespace msb::vmm {

struct LoadedKernel {
  std::uint32_t entry = 0;  // PVH
  std::uint64_t end = 0;    // first address behind it
};

// `fd` is an uncompressed vmlinux, borrowed. Errors of the file's contents are kInvalid; memory too small for
// it is kLimit.
[[nodiscard]] Result<LoadedKernel> load_kernel(int fd, GuestMemory& memory);

// Places the file `fd` (borrowed) and behind it `extra` (another archive) as high as RAM below the hole
// allows, above `floor`. kLimit when there is no room.
[[nodiscard]] Result<Placement> load_initrd(int fd, ByteView extra, std::uint64_t floor, GuestMemory& memory);

// Start info, memory map, command line, descriptor table, `mp` table.
[[nodiscard]] Status place_boot_data(GuestMemory& memory, std::string_view cmdline, Placement initrd,
                                     const MpTable& mp);

}  // namespace msb::vmm
