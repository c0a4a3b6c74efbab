// SPDX-License-Identifier: Apache-2.0
#include "base/subprocess.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <algorithm>
#include <array>
#include <cstddef>

#include "base/foreign_stack.h"

namespace msb {
namespace {

constexpr int kPidfdWait = 3;  // P_PIDFD; glibc 2.36 has it, older headers do not

// What the child needs, prepared before the fork: the child shares the parent's memory until it calls execve,
// so it may only make system calls.
struct ChildPlan {
  const char* path = nullptr;
  char* const* argv = nullptr;
  char* const* env = nullptr;
  const SpawnOptions::FdMapping* fds = nullptr;
  std::size_t fd_count = 0;
  int first_free = 0;  // numbers from here on are no target
  bool new_session = false;
  bool die_with_parent = false;
  pid_t parent = 0;
  volatile int error = 0;  // errno of what failed
  sigset_t old_mask{};
};

MSB_ON_FOREIGN_STACK bool place_descriptors(const ChildPlan& plan) {
  // First away from every target number, then into place: no mapping can overwrite another's source.
  std::array<int, 64> moved;
  for (std::size_t i = 0; i < plan.fd_count; ++i) {
    moved[i] = ::fcntl(plan.fds[i].source, F_DUPFD_CLOEXEC, plan.first_free);
    if (moved[i] < 0) return false;
  }
  bool standard[3] = {false, false, false};
  for (std::size_t i = 0; i < plan.fd_count; ++i) {
    if (::dup2(moved[i], plan.fds[i].target) < 0) return false;
    if (plan.fds[i].target < 3) standard[plan.fds[i].target] = true;
  }
  for (int fd = 0; fd < 3; ++fd) {
    if (standard[fd]) continue;
    const int null = ::open("/dev/null", O_RDWR);
    if (null < 0) return false;
    if (null != fd) {
      if (::dup2(null, fd) < 0) return false;
      ::close(null);
    }
  }
  // Whatever else is open, opened by whom ever in the host program, goes no further.
  int low = 3;
  for (int guard = 0; guard <= 64; ++guard) {
    int next = -1;
    for (std::size_t i = 0; i < plan.fd_count; ++i) {
      if (plan.fds[i].target >= low && (next < 0 || plan.fds[i].target < next)) next = plan.fds[i].target;
    }
    const unsigned last = next < 0 ? ~0U : static_cast<unsigned>(next) - 1;
    if (next != low) ::syscall(SYS_close_range, static_cast<unsigned>(low), last, 0);
    if (next < 0) break;
    low = next + 1;
  }
  return true;
}

MSB_ON_FOREIGN_STACK [[noreturn]] void fail(ChildPlan& plan) {
  plan.error = errno;
  ::_exit(127);
}

MSB_ON_FOREIGN_STACK int child_main(void* argument) {
  auto& plan = *static_cast<ChildPlan*>(argument);
  for (int signal = 1; signal < NSIG; ++signal) {
    struct sigaction action {};
    action.sa_handler = SIG_DFL;
    ::sigaction(signal, &action, nullptr);  // fails for SIGKILL and SIGSTOP only
  }
  if (plan.new_session && ::setsid() < 0) fail(plan);
  if (plan.die_with_parent) {
    if (::prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) fail(plan);
    if (::getppid() != plan.parent) ::_exit(127);  // it died before we asked
  }
  if (!place_descriptors(plan)) fail(plan);
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  ::execve(plan.path, plan.argv, plan.env);
  fail(plan);
}

constexpr std::size_t kStackBytes = std::size_t{64} << 10;

// The short-lived process between us and an orphan.
struct MiddlePlan {
  ChildPlan child;
  char* stack_top = nullptr;
  int pid = -1;
  int pidfd = -1;
  int error = 0;
};

MSB_ON_FOREIGN_STACK int middle_main(void* argument) {
  auto& plan = *static_cast<MiddlePlan*>(argument);
  plan.pid = ::clone(child_main, plan.stack_top, CLONE_VM | CLONE_VFORK | CLONE_PIDFD | SIGCHLD, &plan.child,
                     &plan.pidfd);
  if (plan.pid < 0) plan.error = errno;
  ::_exit(0);
}

std::vector<char*> pointers(const std::vector<std::string>& strings) {
  std::vector<char*> out;
  out.reserve(strings.size() + 1);
  for (const std::string& text : strings) out.push_back(const_cast<char*>(text.c_str()));
  out.push_back(nullptr);
  return out;
}

struct Prepared {
  std::vector<char*> argv;
  std::vector<char*> env;
};

Status prepare(const SpawnOptions& options, Prepared& prepared, ChildPlan& plan) {
  constexpr std::size_t kMaxFds = 64;
  if (options.fds.size() > kMaxFds) {
    return make_error(Errc::kInvalid, "start %s: too many descriptors", options.path.c_str());
  }
  prepared.argv = pointers(options.argv);
  prepared.env = pointers(options.env);
  plan.path = options.path.c_str();
  plan.argv = prepared.argv.data();
  plan.env = prepared.env.data();
  plan.fds = options.fds.data();
  plan.fd_count = options.fds.size();
  plan.first_free = 3;
  for (const auto& mapping : options.fds) plan.first_free = std::max(plan.first_free, mapping.target + 1);
  plan.new_session = options.new_session;
  plan.die_with_parent = options.die_with_parent;
  plan.parent = ::getpid();
  return {};
}

}  // namespace

Status Child::send_signal(int signal) const {
  if (::syscall(SYS_pidfd_send_signal, pidfd_.get(), signal, nullptr, 0) != 0 && errno != ESRCH) {
    return sys_error("send signal");
  }
  return {};
}

Result<ExitStatus> Child::wait(std::optional<Duration> timeout) {
  if (timeout) {
    pollfd poll_fd{pidfd_.get(), POLLIN, 0};
    const timespec limit{static_cast<time_t>(timeout->count() / 1'000'000'000),
                         static_cast<long>(timeout->count() % 1'000'000'000)};
    const int ready = ::ppoll(&poll_fd, 1, &limit, nullptr);
    if (ready == 0) return make_error(Errc::kTimeout, "wait for process %d: still running", pid_);
    if (ready < 0 && errno != EINTR) return sys_error("wait for process");
    if (ready < 0) return make_error(Errc::kTimeout, "wait for process %d: interrupted", pid_);
  }
  siginfo_t info{};
  while (::waitid(static_cast<idtype_t>(kPidfdWait), static_cast<id_t>(pidfd_.get()), &info, WEXITED) != 0) {
    if (errno != EINTR) return sys_error("wait for process");
  }
  if (info.si_code == CLD_EXITED) return ExitStatus{info.si_status, 0};
  return ExitStatus{0, info.si_status};
}

Result<Child> spawn(const SpawnOptions& options) {
  Prepared prepared;
  ChildPlan plan;
  MSB_TRY(prepare(options, prepared, plan));

  // CLONE_VM | CLONE_VFORK: no page tables are copied, and this thread sleeps until execve, so the plan may
  // live on its stack. Signals stay blocked meanwhile: a handler of the host program must not run in the
  // child.
  std::vector<std::max_align_t> stack(kStackBytes / sizeof(std::max_align_t));
  sigset_t all;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &plan.old_mask);
  int pidfd = -1;
  const int pid = ::clone(child_main, stack.data() + stack.size(),
                          CLONE_VM | CLONE_VFORK | CLONE_PIDFD | SIGCHLD, &plan, &pidfd);
  const int clone_error = errno;
  ::pthread_sigmask(SIG_SETMASK, &plan.old_mask, nullptr);
  if (pid < 0) return sys_error("start " + options.path, clone_error);
  Child child(pid, UniqueFd(pidfd));
  if (plan.error != 0) {
    MSB_TRY(child.wait());
    return sys_error("start " + options.path, plan.error);
  }
  return child;
}

Result<Orphan> spawn_orphan(const SpawnOptions& options) {
  if (options.die_with_parent) {
    return make_error(Errc::kInvalid, "start %s: an orphan has no parent to die with", options.path.c_str());
  }
  Prepared prepared;
  MiddlePlan plan;
  MSB_TRY(prepare(options, prepared, plan.child));
  std::vector<std::max_align_t> stacks(2 * kStackBytes / sizeof(std::max_align_t));
  plan.stack_top = static_cast<char*>(static_cast<void*>(stacks.data())) + kStackBytes;
  sigset_t all;
  sigset_t old;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &old);
  // CLONE_FILES: the pidfd that the one in the middle gets is ours too. No exit signal: the host program does
  // not notice it, and its own wait calls do not see it.
  const int middle =
      ::clone(middle_main, stacks.data() + stacks.size(), CLONE_VM | CLONE_VFORK | CLONE_FILES, &plan);
  const int clone_error = errno;
  ::pthread_sigmask(SIG_SETMASK, &old, nullptr);
  if (middle < 0) return sys_error("start " + options.path, clone_error);
  while (::waitpid(middle, nullptr, __WALL) < 0 && errno == EINTR) {
  }
  UniqueFd pidfd(plan.pidfd);
  if (plan.error != 0) return sys_error("start " + options.path, plan.error);
  if (plan.child.error != 0) return sys_error("start " + options.path, plan.child.error);
  return Orphan{plan.pid, std::move(pidfd)};
}

}  // namespace msb
