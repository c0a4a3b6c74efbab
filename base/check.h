// SPDX-License-Identifier: Apache-2.0
// MSB_CHECK: our own invariants, always on. It prints the place and aborts. Never for what an outsider can
// cause.
#pragma once

namespace msb {
// Prints "check failed: EXPR at FILE:LINE" to stderr and aborts.
[[noreturn]] void check_failed(const char* expression, const char* file, int line);
}  // namespace msb

#define MSB_CHECK(condition)                               \
  do {                                                     \
    if (!(condition)) [[unlikely]]                         \
      ::msb::check_failed(#condition, __FILE__, __LINE__); \
  } while (false)
