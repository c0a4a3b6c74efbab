// SPDX-License-Identifier: Apache-2.0
// The guest's physical address map, in one table. (Where RAM goes around the hole below 4 GiB is
// vmm/memory/guest_memory.h's plan_regions().)
//
//   0x0000'0000 - 0x0009'bfff   RAM; boot data below 0x3'0000 (start info, memory map, command line)
//   0x0009'c000 - 0x0009'ffff   the MP table (reserved in the memory map)
//   0x000a'0000 - 0x000f'ffff   nothing
//   0x0010'0000 - min(size, 3 GiB)   RAM: kernel at 16 MiB, initial ramdisk at the top
//   0xd000'0000 - 0xd000'ffff   virtio-mmio, 4 KiB per device
//   0xfec0'0000, 0xfee0'0000    I/O APIC, local APICs
//   0xfffb'c000 - 0xfffb'ffff   what Intel's KVM needs for itself
//   4 GiB - ...                 the rest of RAM
#pragma once

#include <cstddef>
#include <cstdint>

namespace msb::vmm {

inline constexpr std::uint64_t kKiB = 1024;
inline constexpr std::uint64_t kMiB = 1024 * kKiB;
inline constexpr std::uint64_t kGiB = 1024 * kMiB;

inline constexpr std::uint64_t kStartInfoAddress = 0x6000;
inline constexpr std::uint64_t kModuleListAddress = 0x6800;
inline constexpr std::uint64_t kMemoryMapAddress = 0x7000;
inline constexpr std::uint64_t kGdtAddress = 0x8000;
inline constexpr std::uint64_t kCmdlineAddress = 0x20000;
inline constexpr std::size_t kMaxCmdline = 2047;  // x86 COMMAND_LINE_SIZE is 2048 with its zero
inline constexpr std::uint64_t kMpTableAddress = 0x9c000;
inline constexpr std::uint64_t kMpTableSize = 0x4000;
// Where kernels look for the pointer to it: the last KiB of base memory.
inline constexpr std::uint64_t kMpPointerAddress = 0x9fc00;
inline constexpr std::uint64_t kLowMemoryEnd = 0xa0000;
inline constexpr std::uint64_t kHighMemoryStart = 1 * kMiB;

inline constexpr std::uint64_t kVirtioMmioBase = 0xd0000000;
inline constexpr std::uint64_t kVirtioMmioStride = 0x1000;
inline constexpr std::uint64_t kVirtioMmioSize = 0x200;
inline constexpr std::uint64_t kIoapicBase = 0xfec00000;
inline constexpr std::uint64_t kIoapicSize = 0x1000;
inline constexpr std::uint64_t kLocalApicBase = 0xfee00000;
inline constexpr std::uint64_t kIdentityMapAddress = 0xfffbc000;
inline constexpr std::uint32_t kTssAddress = 0xfffbd000;

// The I/O APIC of a machine has a pin for each of its devices and no other but pin 0, which would be the
// PIT's: Linux walks over all pins, and each step is an exit.
inline constexpr std::uint32_t kMaxIoapicPins = 24;
inline constexpr std::uint32_t kFirstVirtioPin = 1;
inline constexpr std::uint32_t kMaxVirtioDevices = kMaxIoapicPins - kFirstVirtioPin;

inline constexpr std::uint32_t kMaxVcpus = 64;
inline constexpr std::uint64_t kMinMemory = 64 * kMiB;
inline constexpr std::uint64_t kMaxMemory = 4096 * kGiB;

}  // namespace msb::vmm
