// SPDX-License-Identifier: Apache-2.0
#include "vmm/exit_codes.h"

namespace msb::vmm {

int exit_code_for(std::string_view stage, Errc code) {
  if (stage == "spec") return kExitUsage;
  if (stage == "lock") return code == Errc::kBusy ? kExitLocked : kExitBadFile;
  if (stage == "kvm") {
    if (code == Errc::kNotFound) return kExitKvmAbsent;
    return code == Errc::kPermission ? kExitKvmForbidden : kExitKvmUnusable;
  }
  if (stage == "confinement") return kExitConfinement;
  if (stage == "files") return code == Errc::kBusy ? kExitLocked : kExitBadFile;
  if (stage == "machine") {
    if (code == Errc::kLimit) return kExitNoMemory;
    return code == Errc::kInvalid || code == Errc::kCorrupt ? kExitBadFile : kExitInternal;
  }
  if (stage == "boot") return code == Errc::kTimeout ? kExitBootTimeout : kExitGuestFailed;
  if (stage == "net") return kExitHelperFailed;
  return kExitInternal;
}

}  // namespace msb::vmm
