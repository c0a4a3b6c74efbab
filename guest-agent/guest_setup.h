// SPDX-License-Identifier: Apache-2.0
// What is set in the guest beside file systems and network: names, files, clock, entropy, limits, control
// groups.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "proto/guest_config.h"

namespace msb::agent {

// Reads and removes the boot configuration from the ramdisk: it may hold a seed and scripts.
[[nodiscard]] Result<proto::GuestConfig> take_boot_config();

// Before anything draws randomness or time: seed and wall clock. Overwrites `config.entropy`.
void seed_and_set_clock(proto::GuestConfig& config, std::vector<std::string>& warnings);

// Host name, /etc/hosts, /etc/resolv.conf, /etc/hostname, the working directory, configured files. Inside the
// root.
void write_guest_files(const proto::GuestConfig& config, std::vector<std::string>& warnings);

// The agent's own resource limits, which sessions inherit, and its exemption from the OOM killer.
void set_limits(std::vector<std::string>& warnings);

// Stops what the guest's kernel does on a timer for ever. Anything it refuses is left as it is.
void quieten_kernel();

// The control group for sessions, so that a fork bomb or a leak in one leaves the agent able to act. Invalid
// when the kernel has no cgroup2.
struct SessionsGroup {
  UniqueFd directory;
  UniqueFd memory_events;  // EPOLLPRI when it changes
};
[[nodiscard]] SessionsGroup make_sessions_group(std::vector<std::string>& warnings);
// The "oom_kill" counter of a memory.events file.
[[nodiscard]] std::uint64_t read_oom_kills(int memory_events);

}  // namespace msb::agent
