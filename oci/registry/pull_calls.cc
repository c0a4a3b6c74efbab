// SPDX-License-Identifier: Apache-2.0
#include "oci/registry/pull_calls.h"

#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <initializer_list>
#include <vector>

#include "base/confine/seccomp.h"

namespace msb::oci {
namespace {

using Calls = std::vector<confine::AllowedCall>;

void allow(Calls& calls, std::initializer_list<int> numbers) {
  for (const int number : numbers) calls.push_back({number, {}});
}

// One line for each value that the argument may have.
void allow_values(Calls& calls, int number, unsigned argument, std::initializer_list<std::uint64_t> values) {
  for (const std::uint64_t value : values) calls.push_back({number, {{argument, value}}});
}

Calls allowed_calls() {
  Calls calls;
  // Descriptors of any kind.
  allow(calls, {__NR_read, __NR_readv, __NR_write, __NR_writev, __NR_pread64, __NR_pwrite64, __NR_close,
                __NR_lseek, __NR_fcntl, __NR_dup, __NR_dup2, __NR_dup3, __NR_pipe2, __NR_select, __NR_poll,
                __NR_ppoll, __NR_pselect6});
  allow(calls, {__NR_epoll_create1, __NR_epoll_ctl, __NR_epoll_wait, __NR_epoll_pwait, __NR_eventfd2});
  allow_values(calls, __NR_ioctl, 1, {TCGETS, TIOCGWINSZ, FIONBIO, FIONREAD});
  // Files: the store, and what the resolver and TLS read. Landlock says which.
  allow(calls,
        {__NR_openat,    __NR_open,       __NR_fstat,     __NR_stat,       __NR_lstat,     __NR_newfstatat,
         __NR_statx,     __NR_statfs,     __NR_fstatfs,   __NR_access,     __NR_faccessat, __NR_faccessat2,
         __NR_readlink,  __NR_readlinkat, __NR_getcwd,    __NR_getdents64, __NR_mkdirat,   __NR_mkdir,
         __NR_ftruncate, __NR_fsync,      __NR_fdatasync, __NR_flock,      __NR_renameat,  __NR_renameat2,
         __NR_rename,    __NR_unlinkat,   __NR_unlink,    __NR_fchmod,     __NR_umask});
  // The registry, and whom the host asks for names: DNS, nscd, resolved, the kernel about its addresses.
  allow_values(calls, __NR_socket, 0, {AF_UNIX, AF_INET, AF_INET6, AF_NETLINK});
  allow(calls, {__NR_socketpair, __NR_connect, __NR_bind, __NR_getsockname, __NR_getpeername, __NR_getsockopt,
                __NR_setsockopt, __NR_sendto, __NR_sendmsg, __NR_sendmmsg, __NR_recvfrom, __NR_recvmsg,
                __NR_recvmmsg, __NR_shutdown});
  // Memory, threads, time and signals, as the C and C++ runtimes use them.
  allow(calls, {__NR_brk, __NR_mmap, __NR_munmap, __NR_mremap, __NR_mprotect, __NR_madvise});
  allow(calls, {__NR_clone3, __NR_clone, __NR_futex, __NR_set_robust_list, __NR_rseq, __NR_sched_getaffinity,
                __NR_sched_yield, __NR_exit, __NR_exit_group});
  allow(calls, {__NR_clock_gettime, __NR_clock_getres, __NR_clock_nanosleep, __NR_nanosleep,
                __NR_gettimeofday, __NR_time});
  allow(calls, {__NR_rt_sigaction, __NR_rt_sigprocmask, __NR_rt_sigreturn, __NR_sigaltstack,
                __NR_restart_syscall, __NR_tgkill});
  allow(calls, {__NR_getpid, __NR_gettid, __NR_getppid, __NR_getuid, __NR_geteuid, __NR_getgid, __NR_getegid,
                __NR_getrandom, __NR_uname, __NR_sysinfo, __NR_getrlimit, __NR_prlimit64});
  // The unpacker's start, its end, and what it takes from itself.
  allow(calls, {__NR_execve, __NR_close_range, __NR_waitid, __NR_pidfd_send_signal, __NR_arch_prctl,
                __NR_set_tid_address, __NR_prctl, __NR_landlock_create_ruleset, __NR_landlock_add_rule,
                __NR_landlock_restrict_self, __NR_capget, __NR_capset, __NR_setrlimit, __NR_memfd_create,
                __NR_seccomp});
  return calls;
}

}  // namespace

Status restrict_pull_calls() {
  MSB_ASSIGN(const auto program, confine::SeccompProgram::compile(allowed_calls()));
  return program.install();
}

}  // namespace msb::oci
