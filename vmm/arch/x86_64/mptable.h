// SPDX-License-Identifier: Apache-2.0
// The MP table: how a kernel without ACPI learns of the CPUs, the I/O APIC and the interrupt lines.
// Pure: makes bytes for kMpPointerAddress and kMpTableAddress. Facts: Intel MultiProcessor Specification 1.4,
// chapter 4.
#pragma once

#include <cstdint>

#include "base/bytes.h"

namespace msb::vmm {

struct MpTable {
  Bytes pointer;  // goes to kMpPointerAddress
  Bytes table;    // goes to kMpTableAddress; ends before the pointer
};

// A table for `cpus` CPUs (1 to kMaxVcpus) whose APIC ids are 0 to cpus-1, and one I/O APIC whose `pins` pins
// (1 to kMaxIoapicPins) are edge-triggered ISA interrupts of the same number.
[[nodiscard]] MpTable build_mp_table(std::uint32_t cpus, std::uint32_t pins);

}  // namespace msb::vmm
