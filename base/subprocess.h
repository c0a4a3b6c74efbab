// SPDX-License-Identifier: Apache-2.0
// Starting programs: an explicit descriptor map, nothing else inherited, waiting by pidfd. No SIGCHLD handler
// is needed or installed, so it works inside any host program.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "base/unique_fd.h"

namespace msb {

struct SpawnOptions {
  std::string path;               // absolute; no PATH search
  std::vector<std::string> argv;  // argv[0] included
  std::vector<std::string> env;   // the whole environment: "KEY=value"
  struct FdMapping {
    int source;  // borrowed from the caller
    int target;  // its number in the child
  };
  std::vector<FdMapping> fds;    // every descriptor the child gets; 0, 1, 2 not named here become /dev/null
  bool new_session = false;      // setsid
  bool die_with_parent = false;  // PR_SET_PDEATHSIG SIGKILL (tied to the calling thread; it must live on)
};

// How a process ended.
struct ExitStatus {
  int code = 0;    // exit code when signal is 0
  int signal = 0;  // terminating signal, 0 for a normal exit
  [[nodiscard]] bool success() const { return code == 0 && signal == 0; }
};

// A child of this process. Not waiting for it leaves a zombie until this process ends: wait() or kill() +
// wait().
class Child {
 public:
  Child() = default;
  Child(pid_t pid, UniqueFd pidfd) : pid_(pid), pidfd_(std::move(pidfd)) {}
  [[nodiscard]] pid_t pid() const { return pid_; }
  // Readable once the child has ended; borrowed.
  [[nodiscard]] int pidfd() const { return pidfd_.get(); }
  // Signals the very process, never a recycled pid. A child that is gone already is success.
  [[nodiscard]] Status send_signal(int signal) const;
  // Reaps; waits at most `timeout` (nullopt: for ever). kTimeout when it still runs.
  [[nodiscard]] Result<ExitStatus> wait(std::optional<Duration> timeout = std::nullopt);

 private:
  pid_t pid_ = -1;
  UniqueFd pidfd_;
};

// Starts `options.path`. Fails with the errno of execve when the program cannot be started. The child has
// default signal dispositions and an empty signal mask.
[[nodiscard]] Result<Child> spawn(const SpawnOptions& options);

// Starts `options.path` as nobody's child: the init process (or the nearest subreaper) inherits and reaps it,
// so a host program that lives for months collects no zombies and hears no SIGCHLD. Its parent is gone from
// the start: die_with_parent is refused. The pidfd is readable once it has ended.
struct Orphan {
  pid_t pid = -1;
  UniqueFd pidfd;
};
[[nodiscard]] Result<Orphan> spawn_orphan(const SpawnOptions& options);

}  // namespace msb
