// SPDX-License-Identifier: Apache-2.0
// Is /dev/kvm good for running guests? Only running one tells: hosts whose KVM merely interprets guest code
// report the usual capabilities and then fail at the first unusual instruction, or are a hundred times too
// slow.
//
// A guest of a few instructions executes int3 (through its own interrupt table), cmpxchg16b and, where the
// CPU has it, xrstor; then it counts a loop, whose time is taken.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace msb::vmm {

enum class KvmVerdict : std::uint8_t {
  kGood,
  kAbsent,        // no /dev/kvm
  kForbidden,     // it may not be opened
  kInterpreting,  // it fails at ordinary instructions, or is far slower than a CPU
  kBroken,        // it cannot make a machine, or lacks something msb needs
};
[[nodiscard]] std::string_view kvm_verdict_name(KvmVerdict verdict);

struct KvmReport {
  KvmVerdict verdict = KvmVerdict::kBroken;
  std::string detail;         // one line for people: what was tried, what refused, what to do
  std::uint64_t loop_ps = 0;  // picoseconds per two-instruction turn of the loop
  // {"verdict":"good","detail":"...","loop_ps":320}
  [[nodiscard]] std::string json() const;
};

// Opens /dev/kvm and tries. Takes a few milliseconds; gives up after a second.
[[nodiscard]] KvmReport check_kvm();

}  // namespace msb::vmm
