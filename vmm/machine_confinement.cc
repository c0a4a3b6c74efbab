// SPDX-License-Identifier: Apache-2.0
#include "vmm/machine_confinement.h"

#include <fcntl.h>
#include <linux/kvm.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "vmm/kvm/lists.h"

namespace msb::vmm {
namespace {

using confine::AllowedCall;
using Calls = std::vector<AllowedCall>;

constexpr rlim_t kMaxOpenFiles = 8192;
constexpr std::uint64_t kIoctlMask = 0xffffffff;

AllowedCall ioctl_call(unsigned long request) { return {__NR_ioctl, {{1, request, kIoctlMask}}}; }

// What the C and C++ libraries do for every thread.
void add_runtime(Calls& calls) {
  calls.insert(calls.end(),
               {
                   {__NR_futex},           // mutexes, condition variables
                   {__NR_rt_sigreturn},    // the handler of the kick signal returns
                   {__NR_rt_sigprocmask},  // pthread_kill and thread exit block signals for a moment
                   {__NR_restart_syscall},
                   {__NR_sched_yield},
                   {__NR_clock_gettime},  // where the vDSO has no clock
                   {__NR_brk},            // malloc
                   {__NR_munmap},
                   {__NR_madvise},  // malloc, thread stacks, and guest memory given back
                   {__NR_mremap},
                   // Memory, but never executable memory.
                   {__NR_mmap, {{2, 0, PROT_EXEC}}},
                   {__NR_mprotect, {{2, 0, PROT_EXEC}}},
                   {__NR_exit},
                   {__NR_exit_group},
                   {__NR_gettid},  // abort() and pthread_kill name their thread
                   {__NR_getpid},
                   {__NR_tgkill},  // kicks of vCPU threads; other processes are not ours to signal
                   {__NR_write},   // eventfds, the log
               });
}

void add_loop(Calls& calls) {
  calls.insert(calls.end(), {
                                {__NR_epoll_wait},
                                {__NR_epoll_pwait},
                                {__NR_epoll_ctl},  // devices watch and forget their descriptors
                                {__NR_read},       // eventfds
                            });
}

// The guest console's file.
void add_console(Calls& calls) {
  calls.insert(calls.end(), {{__NR_pread64}, {__NR_pwrite64}, {__NR_ftruncate}, {__NR_close}});
}

Calls vcpu_calls() {
  Calls calls;
  add_runtime(calls);
  add_console(calls);  // the early console and farewells come on vCPU threads
  calls.push_back(ioctl_call(KVM_RUN));
  calls.push_back(ioctl_call(KVM_GET_REGS));         // for the report of an internal error
  calls.push_back(ioctl_call(kvm::kSetGsiRouting));  // the guest wrote to the I/O APIC
  return calls;
}

Calls disk_calls() {
  Calls calls;
  add_runtime(calls);
  add_loop(calls);
  calls.insert(calls.end(), {
                                {__NR_preadv},
                                {__NR_pwritev},
                                {__NR_preadv2},
                                {__NR_pwritev2},  // RWF_DSYNC
                                {__NR_pread64},
                                {__NR_pwrite64},
                                {__NR_fdatasync},
                                {__NR_fsync},
                                {__NR_fallocate},  // discard, write zeroes
                            });
  return calls;
}

Calls loop_calls() {
  Calls calls;
  add_runtime(calls);
  add_loop(calls);
  add_console(calls);
  calls.insert(calls.end(), {
                                {__NR_accept4},     // clients of the vsock socket
                                {__NR_accept},      //
                                {__NR_recvmsg},     // the link to the supervisor role, vsock, net
                                {__NR_sendmsg},     //
                                {__NR_recvfrom},    //
                                {__NR_sendto},      //
                                {__NR_readv},       // straight into and out of guest memory
                                {__NR_writev},      //
                                {__NR_shutdown},    // half-closed vsock streams
                                {__NR_getsockopt},  // SO_ERROR
                                {__NR_ioctl, {{1, 0x541b, kIoctlMask}}},  // FIONREAD
                                {__NR_fcntl, {{1, F_GETFL, kIoctlMask}}},
                                {__NR_fcntl, {{1, F_SETFL, kIoctlMask}}},
                                {__NR_fallocate},  // memory of the balloon goes back to the host
                                {__NR_getrandom},  // virtio-rng
                                {__NR_getppid},    // is the supervisor role still there?
                            });
  // State of vCPUs and VM, while paused.
  for (const unsigned long request :
       {static_cast<unsigned long>(KVM_KVMCLOCK_CTRL), static_cast<unsigned long>(KVM_GET_CLOCK),
        static_cast<unsigned long>(KVM_SET_CLOCK), kvm::kSetGsiRouting}) {
    calls.push_back(ioctl_call(request));
  }
  return calls;
}

}  // namespace

void confine_machine_process(confine::Report& report) {
  confine::set_no_new_privileges(report);
  confine::enter_namespaces({.mount = true, .network = true, .ipc = true, .uts = false}, report);
  confine::enter_empty_root(report);
  confine::restrict_paths({}, confine::TcpAccess::kNone, report);
  confine::set_limits({{RLIMIT_NOFILE, kMaxOpenFiles}}, report);
  confine::drop_capabilities(report);
  confine::forbid_dumps(report);
}

Result<MachineFilters> MachineFilters::compile() {
  MachineFilters filters;
  MSB_ASSIGN(filters.vcpu, confine::SeccompProgram::compile(vcpu_calls()));
  MSB_ASSIGN(filters.disk, confine::SeccompProgram::compile(disk_calls()));
  MSB_ASSIGN(filters.loop, confine::SeccompProgram::compile(loop_calls()));
  return filters;
}

}  // namespace msb::vmm
