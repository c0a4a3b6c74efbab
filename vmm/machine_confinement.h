// SPDX-License-Identifier: Apache-2.0
// What the machine role may still do once it runs a guest: system calls per kind of thread, each with its
// reason.
#pragma once

#include "base/confine/confine.h"
#include "base/confine/seccomp.h"
#include "base/result.h"

namespace msb::vmm {

// All stages but the filters, while there is one thread and /dev/kvm and all files are open: namespaces, an
// empty root, Landlock without any rule, limits, no capabilities, no dumps.
void confine_machine_process(confine::Report& report);

// Filters, compiled once.
struct MachineFilters {
  confine::SeccompProgram vcpu;
  confine::SeccompProgram disk;  // threads that do blocking disk work
  confine::SeccompProgram loop;  // the main thread
  [[nodiscard]] static Result<MachineFilters> compile();
};

}  // namespace msb::vmm
