// SPDX-License-Identifier: Apache-2.0
// Exit codes of msb-vmm. Each failure to start also writes one line to stderr and to ready_fd.
#pragma once

#include "base/result.h"

namespace msb::vmm {

inline constexpr int kExitOk = 0;             // the sandbox ran and ended, for whatever reason
inline constexpr int kExitInternal = 1;       // something that should not happen
inline constexpr int kExitUsage = 2;          // arguments, or a spec with a wrong member
inline constexpr int kExitKvmAbsent = 10;     // /dev/kvm is not there
inline constexpr int kExitKvmForbidden = 11;  // it may not be opened
inline constexpr int kExitKvmUnusable = 12;   // it is there but does not run guests at the CPU's speed
inline constexpr int kExitBadFile = 20;   // kernel, ramdisk or disk: missing, forbidden, not what it must be
inline constexpr int kExitLocked = 21;    // the sandbox, or a disk of it, is in use
inline constexpr int kExitNoMemory = 22;  // too little memory for the kernel, or on the host
inline constexpr int kExitConfinement = 23;   // confinement was required and is not complete
inline constexpr int kExitBootTimeout = 30;   // the agent did not report in time
inline constexpr int kExitGuestFailed = 31;   // the guest ended before the agent was ready
inline constexpr int kExitHelperFailed = 32;  // msb-net did not start or ended

// What a failed start is called, by its stage ("spec", "lock", "kvm", "machine", "confinement", ...) and
// code.
[[nodiscard]] int exit_code_for(std::string_view stage, Errc code);

}  // namespace msb::vmm
