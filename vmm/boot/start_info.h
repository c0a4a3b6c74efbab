// SPDX-License-Identifier: Apache-2.0
// What a PVH kernel finds at its entry: hvm_start_info, the memory map, the list with the initial ramdisk.
// Pure: makes bytes, the machine places them (memory_map.h says where).
// Facts: Xen public/arch-x86/hvm/start_info.h, version 1 of the structure.
#pragma once

#include <cstdint>
#include <vector>

#include "base/bytes.h"
#include "vmm/memory/guest_memory.h"

namespace msb::vmm {

struct Placement {
  std::uint64_t address = 0;
  std::uint64_t size = 0;
};

struct StartInfo {
  Bytes info;         // goes to kStartInfoAddress
  Bytes module_list;  // goes to kModuleListAddress
  Bytes memory_map;   // goes to kMemoryMapAddress
};

// `ram` as of plan_regions(), the first region from address 0 and above 1 MiB large; `initrd.size` 0 means
// none.
[[nodiscard]] StartInfo build_start_info(const std::vector<RegionSpec>& ram, Placement initrd);

}  // namespace msb::vmm
