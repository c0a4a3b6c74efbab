// SPDX-License-Identifier: Apache-2.0
#include "base/file_lock.h"

#include <sys/file.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <ctime>

namespace msb {
namespace {
constexpr std::chrono::nanoseconds kFirstPause = std::chrono::microseconds(500);
constexpr std::chrono::nanoseconds kLongestPause = std::chrono::milliseconds(20);
}  // namespace

Result<bool> lock_exclusively(int fd, std::optional<Instant> deadline) {
  const SteadyClock clock;
  auto pause = kFirstPause;
  while (::flock(fd, deadline ? LOCK_EX | LOCK_NB : LOCK_EX) != 0) {
    if (errno == EINTR) continue;
    if (errno != EWOULDBLOCK) return sys_error("lock");
    if (clock.now() >= *deadline) return false;
    // flock has no timeout of its own: look again, less and less often.
    const timespec wait{0, pause.count()};
    ::nanosleep(&wait, nullptr);
    pause = std::min(pause * 2, kLongestPause);
  }
  return true;
}

}  // namespace msb
