// SPDX-License-Identifier: Apache-2.0
// The system calls that a pull may make: one allow-list for this process and for the unpackers it starts,
// which narrow theirs further (unpack_process.cc).
#pragma once

#include "base/result.h"

namespace msb::oci {

// Kills this process at any call that is not listed. For the calling thread and all that come after it; call
// it while there is one. Needs no_new_privs.
[[nodiscard]] Status restrict_pull_calls();

}  // namespace msb::oci
