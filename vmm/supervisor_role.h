// SPDX-License-Identifier: Apache-2.0
// The supervisor role: one process for a sandbox's life. It holds the sandbox's directory, lock, logs, timers
// and children, and never guest memory.
//
// Theory of operation. States: starting -> running <-> paused -> stopping -> (process ends). Everything
// happens on one loop. The guest's agent connects out to port 1 (through the machine role, which asks here
// for a socket); its READY makes the sandbox run. However the end comes about, it passes through finish(),
// once: state.json is written, whoever waits is answered, the children are killed, and the process ends; the
// kernel then releases the lock. An orderly stop asks the agent first (SHUTDOWN, SHUTDOWN_DONE) within the
// grace period.
//
// Hostile here: the agent's frames and the machine role's messages (both are in the guest's hands, one more
// likely than the other). Trusted: the spec, and clients of the control socket (same user, mode 0600).
#pragma once

#include "proto/vm_spec.h"

namespace msb::vmm {

// Runs the sandbox to its end; the process's exit code (vmm/exit_codes.h).
[[nodiscard]] int run_supervisor_role(proto::VmSpec spec);

}  // namespace msb::vmm
