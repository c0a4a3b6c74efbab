// SPDX-License-Identifier: Apache-2.0
#include "net/net_sandbox.h"

#include <sys/syscall.h>

#include <vector>

#include "base/confine/confine.h"
#include "base/confine/seccomp.h"
#include "base/log.h"

namespace msb::net {
namespace {

// What one event loop over sockets needs, and what the C and C++ runtimes call beneath it.
std::vector<confine::AllowedCall> allowed_calls() {
  std::vector<confine::AllowedCall> out;
  for (const int number :
       {// the loop
        __NR_epoll_wait, __NR_epoll_pwait, __NR_epoll_ctl, __NR_eventfd2, __NR_read, __NR_write, __NR_writev,
        __NR_close,
        // sockets
        __NR_socket, __NR_connect, __NR_bind, __NR_listen, __NR_accept4, __NR_getsockname, __NR_getpeername,
        __NR_getsockopt, __NR_setsockopt, __NR_sendto, __NR_sendmsg, __NR_recvfrom, __NR_recvmsg,
        __NR_shutdown,
        // resolv.conf, below the one directory that is left
        __NR_openat, __NR_fstat, __NR_newfstatat, __NR_lseek,
        // time, randomness, memory, end
        __NR_clock_gettime, __NR_getrandom, __NR_brk, __NR_mmap, __NR_munmap, __NR_mremap, __NR_madvise,
        __NR_mprotect, __NR_futex, __NR_exit, __NR_exit_group, __NR_rt_sigreturn, __NR_rt_sigaction,
        __NR_rt_sigprocmask, __NR_restart_syscall, __NR_getpid, __NR_gettid, __NR_tgkill}) {
    out.push_back({number, {}});
  }
  return out;
}

}  // namespace

Status confine_net_process(Confinement mode, int etc_fd) {
  if (mode == Confinement::kOff) {
    MSB_WARN("running without confinement");
    return {};
  }
  confine::Report report;
  // Not the network namespace: the host's network is what this program is for.
  confine::enter_namespaces({.mount = true, .ipc = true, .uts = true}, report);
  confine::enter_empty_root(report);
  confine::set_no_new_privileges(report);
  std::vector<confine::PathRule> paths;
  if (etc_fd >= 0) paths.push_back({etc_fd, confine::PathAccess::kRead});
  confine::restrict_paths(paths, confine::TcpAccess::kAll, report);
  confine::drop_capabilities(report);
  confine::set_limits({}, report);
  confine::forbid_dumps(report);
  const auto program = confine::SeccompProgram::compile(allowed_calls());
  report.add(confine::Layer::kSeccomp, program ? program->install() : Status(program.error()));
  if (report.complete()) return {};
  if (mode == Confinement::kRequire)
    return make_error(Errc::kUnsupported, "confinement is incomplete: %s", report.missing_text().c_str());
  MSB_WARN("confinement is incomplete: %s", report.missing_text().c_str());
  return {};
}

}  // namespace msb::net
