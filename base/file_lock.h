// SPDX-License-Identifier: Apache-2.0
// Waiting for an advisory lock with an end to the patience.
#pragma once

#include <optional>

#include "base/clock.h"
#include "base/result.h"

namespace msb {

// Takes an exclusive flock(2) on `fd`, which keeps it until its last copy is closed. Blocks the thread until
// the lock is there (true) or `deadline` has passed (false); without one, for as long as it takes. A deadline
// that is over already makes it one attempt. Errors: the system call's, never that somebody holds it.
[[nodiscard]] Result<bool> lock_exclusively(int fd, std::optional<Instant> deadline);

}  // namespace msb
