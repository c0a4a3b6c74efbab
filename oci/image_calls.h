// SPDX-License-Identifier: Apache-2.0
// The system calls of the processes that load and save images. Each function kills this process at any call
// that is not listed; it is for the calling thread and all that come after it, so it is called while there is
// one, before the first byte from outside. Needs no_new_privs.
#pragma once

#include "base/result.h"

namespace msb::oci {

// A load also starts unpackers, which inherit the list and narrow it to their own (unpack_process.h).
[[nodiscard]] Status restrict_load_calls();
// A save starts nothing.
[[nodiscard]] Status restrict_save_calls();

}  // namespace msb::oci
