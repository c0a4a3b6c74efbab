// SPDX-License-Identifier: Apache-2.0
// A vCPU's registers at the PVH entry, and the MSRs that must not have their reset value.
// Pure values. Facts: Xen docs/misc/pvh.pandoc ("32-bit protected mode, paging off, ebx = start info"),
// Intel SDM vol. 3, 3.4.5 (segment descriptors), 2.5 (control registers).
#pragma once

#include <linux/kvm.h>

#include <array>
#include <cstdint>
#include <vector>

#include "base/bytes.h"

namespace msb::vmm {

// Null, 32-bit code, 32-bit data, task state: for kGdtAddress. A PVH kernel loads its own; this one only
// makes the selectors that it starts with meaningful.
[[nodiscard]] Bytes build_gdt();

// Changes `sregs` (as KVM made them) to flat 32-bit protected mode without paging.
void set_pvh_segments(kvm_sregs& sregs);
[[nodiscard]] kvm_regs pvh_registers(std::uint32_t entry);

// MSRs of every vCPU at boot.
[[nodiscard]] std::vector<kvm_msr_entry> boot_msrs();

}  // namespace msb::vmm
