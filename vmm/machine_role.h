// SPDX-License-Identifier: Apache-2.0
// The machine role: the process that runs the guest. It gets values and descriptors, builds the machine,
// gives up its rights, and only then lets the guest's first instruction run.
#pragma once

namespace msb::vmm {

// `link` is the socket to the supervisor role; owned. Returns the process's exit code (vmm/exit_codes.h).
// Ends when the guest does, or when the supervisor role goes away.
[[nodiscard]] int run_machine_role(int link);

}  // namespace msb::vmm
