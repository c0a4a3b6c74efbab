// SPDX-License-Identifier: Apache-2.0
// ioctl() that survives signals; the one place of the variadic call. Private to vmm/kvm.
#pragma once

#include <sys/ioctl.h>

#include <cerrno>

namespace msb::vmm::kvm {

// Repeats on EINTR. `argument` is whatever the request takes: a pointer or an integer as wide as one.
template <typename T>
[[nodiscard]] inline int retry_ioctl(int fd, unsigned long request, T argument) {
  int result;
  do {
    result = ::ioctl(fd, request, argument);
  } while (result < 0 && errno == EINTR);
  return result;
}

}  // namespace msb::vmm::kvm
