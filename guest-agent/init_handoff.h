// SPDX-License-Identifier: Apache-2.0
// Gives process 1 to the image's own init (systemd, s6, ...) while the agent goes on as its child.
#pragma once

#include "base/result.h"
#include "proto/guest_config.h"

namespace msb::agent {

// Forks. In the parent, process 1, executes the init; returns in the child once that has happened, or with
// the error of execve when it has not. Call before any thread exists. Orphans are the init's from then on.
[[nodiscard]] Status hand_over_init(const proto::GuestConfig::Init& init);

}  // namespace msb::agent
