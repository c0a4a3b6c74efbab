// SPDX-License-Identifier: Apache-2.0
#include "oci/image_calls.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include <csignal>

#include "base/confine/seccomp.h"
#include "oci/unpack_process.h"

namespace msb::oci {
namespace {

using Calls = std::vector<confine::AllowedCall>;

void append(Calls& calls, const Calls& more) { calls.insert(calls.end(), more.begin(), more.end()); }

// The store, by names below its descriptors, which Landlock judges.
Calls store_calls() {
  return {
      {__NR_openat},
      {__NR_newfstatat},  // fstat() too
      {__NR_getdents64},
      {__NR_flock},
      // fdopendir() looks at its descriptor and closes it at execve.
      {__NR_fcntl, {{1, F_GETFL}}},
      {__NR_fcntl, {{1, F_SETFD}}},
      {__NR_renameat},
      {__NR_unlinkat},
      {__NR_fdatasync},
      {__NR_getpid},  // in the names of what is not complete
  };
}

// A load's own work: storing, telling, and reading a directory.
Calls load_calls() {
  return {
      {__NR_faccessat2},
      {__NR_fsync},
      {__NR_ioctl, {{1, TCGETS}}},  // standard output: by the line on a terminal
      {__NR_flistxattr},
      {__NR_fgetxattr},
      // Attributes of a link, a device or a pipe, which are not opened.
      {__NR_llistxattr},
      {__NR_lgetxattr},
      {__NR_readlinkat},
  };
}

// From the start of an unpacker to its end. The child lives by this list until it installs its own, so what
// it calls to confine itself is here.
Calls child_calls() {
  return {
      {__NR_pipe2},
      {__NR_fcntl, {{1, F_SETPIPE_SZ}}},
      // What spawn() asks for; a thread's flags are in the unpacker's list.
      {__NR_clone, {{0, CLONE_VM | CLONE_VFORK | CLONE_PIDFD | SIGCHLD}}},
      {__NR_waitid},
      {__NR_pidfd_send_signal},
      // The child before its program runs.
      {__NR_prctl, {{0, PR_SET_PDEATHSIG}}},
      {__NR_getppid},
      {__NR_fcntl, {{1, F_DUPFD_CLOEXEC}}},
      {__NR_dup2},
      {__NR_close_range},
      {__NR_execve},  // Landlock leaves it msb-image and what lies in /usr
      // The C library's start.
      {__NR_arch_prctl},
      {__NR_set_tid_address},
      {__NR_readlink},
      {__NR_prlimit64, {{0, 0}}},  // this process's only; set_limits() too
      // Its confinement.
      {__NR_prctl, {{0, PR_SET_NO_NEW_PRIVS}}},
      {__NR_prctl, {{0, PR_CAPBSET_DROP}}},
      {__NR_prctl, {{0, PR_CAP_AMBIENT}}},
      {__NR_prctl, {{0, PR_SET_DUMPABLE}}},
      {__NR_landlock_create_ruleset},
      {__NR_landlock_restrict_self},
      {__NR_capset},
      {__NR_memfd_create},  // libseccomp writes its program there
      {__NR_seccomp},
  };
}

// What a save does besides walking the store: the subset of the unpacker's list that one thread needs.
Calls save_calls() {
  return {
      {__NR_read},
      {__NR_write},
      {__NR_pread64},
      {__NR_close},
      {__NR_brk},
      {__NR_mmap, {{2, 0, PROT_EXEC}}},
      {__NR_munmap},
      {__NR_mremap},         // only when a large vector grows
      {__NR_madvise},        // only when malloc gives memory back
      {__NR_futex},          // the first use of libcrypto
      {__NR_getrandom},      // only when malloc makes its first key
      {__NR_clock_gettime},  // only where the vDSO has no clock
      {__NR_exit_group},
      {__NR_restart_syscall},  // only after SIGSTOP and SIGCONT
      {__NR_rt_sigprocmask},   // only in abort()
      {__NR_rt_sigaction},     // only in abort()
      {__NR_gettid},           // only in abort()
      {__NR_tgkill},           // only in abort()
  };
}

Status restrict_to(const Calls& calls) {
  MSB_ASSIGN(const auto program, confine::SeccompProgram::compile(calls));
  return program.install();
}

}  // namespace

Status restrict_load_calls() {
  // The unpacker's calls, whole: what it may do, its parent must be allowed.
  Calls calls = unpacker_calls();
  append(calls, store_calls());
  append(calls, load_calls());
  append(calls, child_calls());
  return restrict_to(calls);
}

Status restrict_save_calls() {
  Calls calls = save_calls();
  append(calls, store_calls());
  return restrict_to(calls);
}

}  // namespace msb::oci
