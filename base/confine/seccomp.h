// SPDX-License-Identifier: Apache-2.0
// System call filters: allow-lists compiled by libseccomp, installed per thread, killing the process on the
// first call that is not listed.
#pragma once

#include <linux/filter.h>

#include <cstdint>
#include <initializer_list>
#include <vector>

#include "base/result.h"

namespace msb::confine {

// What an argument (0 to 5) of a listed call must be: (argument & mask) == value.
struct ArgumentCheck {
  unsigned index = 0;
  std::uint64_t value = 0;
  std::uint64_t mask = ~0ULL;
};

// One line of an allow-list. A call may be listed several times with different checks; each list is enough.
// A line whose comment begins with "only" is for a path so rare that no test of the load walks it
// (tests/confinement); every other line must be needed by that load.
struct AllowedCall {
  int number;  // __NR_...
  std::vector<ArgumentCheck> checks = {};
  int refusal = 0;  // instead of being allowed, the call fails with this errno; for what has a fallback
};

// A compiled filter: a value that any number of threads may install.
class SeccompProgram {
 public:
  // kUnsupported or kInternal when libseccomp refuses a line.
  [[nodiscard]] static Result<SeccompProgram> compile(const std::vector<AllowedCall>& allowed);
  // For the calling thread and those it makes afterwards. Needs no_new_privs.
  [[nodiscard]] Status install() const;

 private:
  std::vector<sock_filter> code_;
};

}  // namespace msb::confine
