// SPDX-License-Identifier: Apache-2.0
// Starting the supervisor role's children, and its own confinement.
#pragma once

#include "base/result.h"
#include "base/subprocess.h"
#include "proto/vm_spec.h"
#include "vmm/machine_spec.h"

namespace msb::vmm {

struct MachineChild {
  Child child;
  UniqueFd link;  // our end of the socket pair
};
// This very program again, as `--machine`.
[[nodiscard]] Result<MachineChild> start_machine();

struct NetChild {
  Child child;
  UniqueFd control;  // its control socket
  UniqueFd audit;    // its audit lines; non-blocking
  NetDeviceSpec device;
};
// msb-net beside this program. Its output goes to net.log in `logs_fd` (borrowed).
[[nodiscard]] Result<NetChild> start_net(const proto::VmSpec& spec, int logs_fd);

// Once the children run: no new privileges, no capabilities, no dumps. What this host lacks is a warning;
// kUnavailable when `required`.
[[nodiscard]] Status confine_supervisor(bool required);

// The code of a name that errc_name() gave; kInternal for others.
[[nodiscard]] Errc errc_from_name(std::string_view name);

}  // namespace msb::vmm
