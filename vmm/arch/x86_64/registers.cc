// SPDX-License-Identifier: Apache-2.0
#include "vmm/arch/x86_64/registers.h"

#include "base/wire.h"
#include "vmm/memory_map.h"

namespace msb::vmm {
namespace {

constexpr std::uint16_t kCodeSelector = 0x08;
constexpr std::uint16_t kDataSelector = 0x10;
constexpr std::uint16_t kTaskSelector = 0x18;
constexpr std::uint64_t kCr0ProtectedMode = 1;
constexpr std::uint64_t kCr0ExtensionType = 1 << 4;  // fixed to 1
constexpr std::uint64_t kRflagsFixed = 2;

constexpr std::uint32_t kMsrMiscEnable = 0x1a0;
constexpr std::uint64_t kMiscEnableFastStrings = 1;
constexpr std::uint32_t kMsrMtrrDefType = 0x2ff;
constexpr std::uint64_t kMtrrEnableWriteBack = (1 << 11) | 6;

kvm_segment flat(std::uint16_t selector, std::uint8_t type) {
  kvm_segment segment{};
  segment.base = 0;
  segment.limit = 0xffffffff;
  segment.selector = selector;
  segment.type = type;
  segment.present = 1;
  segment.db = 1;  // 32 bits
  segment.s = 1;   // code or data
  segment.g = 1;   // limit in pages
  return segment;
}

constexpr std::uint8_t kTypeCode = 0xb;  // execute, read, accessed
constexpr std::uint8_t kTypeData = 0x3;  // read, write, accessed
constexpr std::uint8_t kTypeTask = 0xb;  // busy 32-bit task state

kvm_segment task_state() {
  kvm_segment segment{};
  segment.limit = 0x67;
  segment.selector = kTaskSelector;
  segment.type = kTypeTask;
  segment.present = 1;
  return segment;
}

std::uint64_t descriptor(const kvm_segment& s) {
  const std::uint64_t limit = s.g != 0 ? s.limit >> 12 : s.limit;
  return (limit & 0xffff) | (s.base & 0xffffff) << 16 | std::uint64_t{s.type} << 40 |
         std::uint64_t{s.s} << 44 | std::uint64_t{s.dpl} << 45 | std::uint64_t{s.present} << 47 |
         (limit >> 16 & 0xf) << 48 | std::uint64_t{s.l} << 53 | std::uint64_t{s.db} << 54 |
         std::uint64_t{s.g} << 55 | (s.base >> 24 & 0xff) << 56;
}

}  // namespace

Bytes build_gdt() {
  ByteWriter out;
  out.put(Le64{0UL});
  out.put(Le64{descriptor(flat(kCodeSelector, kTypeCode))});
  out.put(Le64{descriptor(flat(kDataSelector, kTypeData))});
  out.put(Le64{descriptor(task_state())});
  return std::move(out).take();
}

void set_pvh_segments(kvm_sregs& sregs) {
  sregs.cs = flat(kCodeSelector, kTypeCode);
  sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = flat(kDataSelector, kTypeData);
  sregs.tr = task_state();
  sregs.gdt.base = kGdtAddress;
  sregs.gdt.limit = 4 * 8 - 1;
  sregs.idt.base = 0;
  sregs.idt.limit = 0;
  sregs.cr0 = kCr0ProtectedMode | kCr0ExtensionType;
  sregs.cr3 = 0;
  sregs.cr4 = 0;
  sregs.efer = 0;
}

kvm_regs pvh_registers(std::uint32_t entry) {
  kvm_regs regs{};
  regs.rip = entry;
  regs.rbx = kStartInfoAddress;
  regs.rflags = kRflagsFixed;
  return regs;
}

std::vector<kvm_msr_entry> boot_msrs() {
  const auto msr = [](std::uint32_t index, std::uint64_t value) {
    kvm_msr_entry entry{};
    entry.index = index;
    entry.data = value;
    return entry;
  };
  return {msr(kMsrMiscEnable, kMiscEnableFastStrings), msr(kMsrMtrrDefType, kMtrrEnableWriteBack)};
}

}  // namespace msb::vmm
