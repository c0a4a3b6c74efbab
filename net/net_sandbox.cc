// SPDX-License-Identifier: Apache-2.0
#include "net/net_sandbox.h"

#include <linux/netlink.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include <ctime>
#include <vector>

#include "base/confine/confine.h"
#include "base/confine/seccomp.h"
#include "base/log.h"

namespace msb::net {
namespace {

// What one event loop over sockets needs, and what the C and C++ runtimes call beneath it.
std::vector<confine::AllowedCall> allowed_calls() {
  constexpr std::uint64_t kWholeInt = 0xffffffff;
  constexpr std::uint64_t kTypeBits = 0xf;
  return {
      // the loop
      {__NR_epoll_wait},
      {__NR_epoll_ctl},
      {__NR_read},  // only when work was posted to the loop
      {__NR_write},
      {__NR_writev},
      {__NR_close},
      // sockets of the internet: no local ones, no vsock, nothing raw
      {__NR_socket, {{0, AF_INET, kWholeInt}, {1, SOCK_STREAM, kTypeBits}}},
      {__NR_socket, {{0, AF_INET, kWholeInt}, {1, SOCK_DGRAM, kTypeBits}}},
      {__NR_socket, {{0, AF_INET6, kWholeInt}, {1, SOCK_STREAM, kTypeBits}}},
      {__NR_socket, {{0, AF_INET6, kWholeInt}, {1, SOCK_DGRAM, kTypeBits}}},
      // and the one that lists the host's addresses, when they change
      {__NR_socket, {{0, AF_NETLINK, kWholeInt}, {2, NETLINK_ROUTE, kWholeInt}}},
      {__NR_connect},
      {__NR_bind},
      {__NR_listen},
      {__NR_accept4},
      {__NR_getsockname},
      {__NR_getsockopt},
      {__NR_setsockopt},
      {__NR_sendto},
      {__NR_sendmsg},
      {__NR_recvfrom},
      {__NR_shutdown},
      // time and randomness
      {__NR_clock_gettime},  // only where the vDSO has no clock
      {__NR_getrandom},
      // memory, but never executable memory
      {__NR_brk},
      {__NR_mmap, {{2, 0, PROT_EXEC}}},
      {__NR_munmap},
      {__NR_mprotect, {{2, 0, PROT_EXEC}}},  // only when malloc makes another heap
      {__NR_mremap},                         // only when a large vector grows
      {__NR_madvise},                        // only when malloc gives memory back
      {__NR_futex},                          // only when a lock of the C library is contended
      // the end
      {__NR_exit_group},
      {__NR_rt_sigaction},     // only in abort()
      {__NR_rt_sigprocmask},   // only in abort()
      {__NR_getpid},           // only in abort()
      {__NR_gettid},           // only in abort()
      {__NR_tgkill},           // only in abort()
      {__NR_restart_syscall},  // only after SIGSTOP and SIGCONT
  };
}

}  // namespace

Status confine_net_process(Confinement mode) {
  if (mode == Confinement::kOff) {
    MSB_WARN("running without confinement");
    return {};
  }
  ::tzset();  // the log's clock would open the host's time zone later
  confine::Report report;
  // Not the network namespace: the host's network is what this program is for.
  confine::enter_namespaces({.mount = true, .ipc = true, .uts = true}, report);
  confine::enter_empty_root(report);
  confine::set_no_new_privileges(report);
  confine::restrict_paths({}, confine::TcpAccess::kAll, report);
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
