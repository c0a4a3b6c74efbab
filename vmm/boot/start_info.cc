// SPDX-License-Identifier: Apache-2.0
#include "vmm/boot/start_info.h"

#include "base/check.h"
#include "base/wire.h"
#include "vmm/memory_map.h"

namespace msb::vmm {
namespace {

constexpr std::uint32_t kMagic = 0x336ec578;
constexpr std::uint32_t kVersion = 1;
constexpr std::uint32_t kTypeRam = 1;
constexpr std::uint32_t kTypeReserved = 2;

struct Info {
  Le32 magic, version, flags, module_count;
  Le64 module_list, cmdline, rsdp, memory_map;
  Le32 memory_map_entries, reserved;
};
static_assert(sizeof(Info) == 56 && WireStruct<Info>);

struct Module {
  Le64 address, size, cmdline, reserved;
};
static_assert(sizeof(Module) == 32);

struct MapEntry {
  Le64 address, size;
  Le32 type, reserved;
};
static_assert(sizeof(MapEntry) == 24);

}  // namespace

StartInfo build_start_info(const std::vector<RegionSpec>& ram, Placement initrd) {
  ByteWriter map;
  std::uint32_t entries = 0;
  const auto add = [&](std::uint64_t address, std::uint64_t size, std::uint32_t type) {
    map.put(MapEntry{.address = address, .size = size, .type = type, .reserved = 0U});
    ++entries;
  };
  for (const RegionSpec& region : ram) {
    if (region.base == Gpa{0}) {
      MSB_CHECK(region.size > kHighMemoryStart);
      add(0, kMpTableAddress, kTypeRam);
      add(kMpTableAddress, kMpTableSize, kTypeReserved);
      add(kHighMemoryStart, region.size - kHighMemoryStart, kTypeRam);
    } else {
      add(to_u64(region.base), region.size, kTypeRam);
    }
  }
  ByteWriter modules;
  if (initrd.size > 0)
    modules.put(Module{.address = initrd.address, .size = initrd.size, .cmdline = 0UL, .reserved = 0UL});
  ByteWriter info;
  info.put(Info{.magic = kMagic,
                .version = kVersion,
                .flags = 0U,
                .module_count = initrd.size > 0 ? 1U : 0U,
                .module_list = initrd.size > 0 ? kModuleListAddress : 0UL,
                .cmdline = kCmdlineAddress,
                .rsdp = 0UL,
                .memory_map = kMemoryMapAddress,
                .memory_map_entries = entries,
                .reserved = 0U});
  return {std::move(info).take(), std::move(modules).take(), std::move(map).take()};
}

}  // namespace msb::vmm
