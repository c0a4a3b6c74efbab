// SPDX-License-Identifier: Apache-2.0
// Gives process 1 to the image's own init (systemd, s6, ...) while the agent goes on as its child.
#pragma once

#include <cstdint>
#include <string>

#include "base/result.h"
#include "proto/guest_config.h"

namespace msb::agent {

// What an image starts as process 1 where the host leaves it to the image ("auto"): the first program there
// is at one of the usual places below `root` (empty: the running root). kNotFound names them.
[[nodiscard]] Result<std::string> find_init(const std::string& root = {});

// Forks. In the parent, process 1, executes the init; returns in the child once that has happened, or with
// the error of execve when it has not. Call before any thread exists. Orphans are the init's from then on.
[[nodiscard]] Status hand_over_init(const proto::GuestConfig::Init& init);

// The signal that makes such an init power off: what the image says, unless that is the default and the
// program is one that takes another.
[[nodiscard]] int init_stop_signal(const proto::GuestConfig& config);

// Waits until no process is left but process 1, this one and the kernel's, or until `milliseconds` have
// passed.
void wait_for_last_process(std::int64_t milliseconds);

}  // namespace msb::agent
