// SPDX-License-Identifier: Apache-2.0
//
// System calls that programs expect.

#include "check.h"

#include <asm/ldt.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/io_uring.h>
#include <linux/userfaultfd.h>
#include <mqueue.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/fanotify.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/ptrace.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/signalfd.h>
#include <sys/swap.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <ctime>
#include <string>

namespace features {
namespace {

constexpr std::size_t kPage = 4096;

std::string io_uring() {
  // A NOP goes through the whole ring, with the queues mapped by hand.
  io_uring_params params{};
  const int fd = static_cast<int>(syscall(SYS_io_uring_setup, 4, &params));
  if (fd < 0) return failed("io_uring_setup");
  if ((params.features & IORING_FEAT_SINGLE_MMAP) == 0) return "no single mmap feature";
  const std::size_t ring_bytes =
      std::max<std::size_t>(params.sq_off.array + params.sq_entries * sizeof(unsigned),
                            params.cq_off.cqes + params.cq_entries * sizeof(io_uring_cqe));
  void* ring =
      mmap(nullptr, ring_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, IORING_OFF_SQ_RING);
  void* sqes = mmap(nullptr, params.sq_entries * sizeof(io_uring_sqe), PROT_READ | PROT_WRITE,
                    MAP_SHARED | MAP_POPULATE, fd, IORING_OFF_SQES);
  if (ring == MAP_FAILED || sqes == MAP_FAILED) return failed("mmap of the rings");
  auto* base = static_cast<char*>(ring);
  auto* entry = static_cast<io_uring_sqe*>(sqes);
  *entry = {};
  entry->opcode = IORING_OP_NOP;
  entry->user_data = 42;
  auto word = [base](unsigned offset) { return static_cast<unsigned*>(static_cast<void*>(base + offset)); };
  word(params.sq_off.array)[0] = 0;
  __atomic_store_n(word(params.sq_off.tail), 1U, __ATOMIC_RELEASE);
  if (syscall(SYS_io_uring_enter, fd, 1, 1, IORING_ENTER_GETEVENTS, nullptr, 0) != 1)
    return failed("io_uring_enter");
  const auto* done = static_cast<io_uring_cqe*>(static_cast<void*>(base + params.cq_off.cqes));
  return done->user_data == 42 && done->res == 0 ? "" : "the completion is wrong";
}

std::string aio() {
  aio_context_t context = 0;
  if (syscall(SYS_io_setup, 8, &context) < 0) return failed("io_setup");
  return want_ok(syscall(SYS_io_destroy, context), "io_destroy");
}

std::string userfaultfd() {
  const int fd = static_cast<int>(syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK));
  if (fd < 0) return failed("userfaultfd");
  uffdio_api api{};
  api.api = UFFD_API;
  if (ioctl(fd, UFFDIO_API, &api) < 0) return failed("UFFDIO_API");
  void* page = mmap(nullptr, kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  uffdio_register reg{};
  reg.range.start = static_cast<__u64>(reinterpret_cast<std::uintptr_t>(page));
  reg.range.len = kPage;
  reg.mode = UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_WP;
  return want_ok(ioctl(fd, UFFDIO_REGISTER, &reg), "UFFDIO_REGISTER missing and write-protect");
}

std::string epoll_and_event_descriptors() {
  const int events = eventfd(1, EFD_CLOEXEC);
  if (events < 0) return failed("eventfd");
  const int timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
  if (timer < 0) return failed("timerfd_create");
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR1);
  if (signalfd(-1, &set, SFD_CLOEXEC) < 0) return failed("signalfd");
  const int poller = epoll_create1(EPOLL_CLOEXEC);
  if (poller < 0) return failed("epoll_create1");
  epoll_event want{};
  want.events = EPOLLIN;
  if (epoll_ctl(poller, EPOLL_CTL_ADD, events, &want) < 0) return failed("epoll_ctl");
  epoll_event got{};
  return epoll_wait(poller, &got, 1, 1000) == 1 ? "" : failed("epoll_wait");
}

std::string high_resolution_timers() {
  timespec resolution{};
  if (clock_getres(CLOCK_MONOTONIC, &resolution) < 0) return failed("clock_getres");
  if (resolution.tv_sec != 0 || resolution.tv_nsec != 1)
    return "resolution is " + std::to_string(resolution.tv_nsec) + " ns";
  timer_t timer{};
  sigevent none{};
  none.sigev_notify = SIGEV_NONE;
  return want_ok(timer_create(CLOCK_BOOTTIME, &none, &timer), "timer_create");
}

std::string inotify() {
  const int fd = inotify_init1(IN_CLOEXEC);
  if (fd < 0) return failed("inotify_init1");
  const std::string dir = make_dir("inotify");
  if (inotify_add_watch(fd, dir.c_str(), IN_CREATE) < 0) return failed("inotify_add_watch");
  make_dir("inotify/new");
  pollfd ready{fd, POLLIN, 0};
  return poll(&ready, 1, 1000) == 1 ? "" : "no event for a new directory";
}

std::string fanotify() {
  const int fd = fanotify_init(FAN_CLASS_CONTENT | FAN_CLOEXEC, O_RDONLY);
  if (fd < 0) return failed("fanotify_init with permission events");
  const std::string dir = make_dir("fanotify");
  return want_ok(fanotify_mark(fd, FAN_MARK_ADD | FAN_MARK_MOUNT, FAN_OPEN_PERM, AT_FDCWD, dir.c_str()),
                 "fanotify_mark of a mount");
}

std::string sysv_ipc() {
  const int memory = shmget(IPC_PRIVATE, kPage, IPC_CREAT | 0600);
  if (memory < 0) return failed("shmget");
  shmctl(memory, IPC_RMID, nullptr);
  const int semaphore = semget(IPC_PRIVATE, 1, IPC_CREAT | 0600);
  if (semaphore < 0) return failed("semget");
  semctl(semaphore, 0, IPC_RMID);
  const int queue = msgget(IPC_PRIVATE, IPC_CREAT | 0600);
  if (queue < 0) return failed("msgget");
  return want_ok(msgctl(queue, IPC_RMID, nullptr), "msgctl");
}

std::string posix_mqueue() {
  const mqd_t queue = mq_open("/kernel_features", O_CREAT | O_RDWR, 0600, nullptr);
  if (queue < 0) return failed("mq_open");
  return want_ok(mq_unlink("/kernel_features"), "mq_unlink");
}

std::string memory_descriptors() {
  if (syscall(SYS_memfd_create, "x", 2U /* MFD_ALLOW_SEALING */) < 0) return failed("memfd_create");
  return want_ok(syscall(SYS_memfd_secret, 0), "memfd_secret");
}

std::string hugetlb() {
  const std::string size = read_file("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages");
  if (size.empty()) return "no 2 MiB hugetlb pool in /sys/kernel/mm/hugepages";
  return want_ok(syscall(SYS_memfd_create, "x", 4U /* MFD_HUGETLB */), "memfd_create MFD_HUGETLB");
}

std::string transparent_huge_pages() {
  // The kernel itself turns them off in guests of less than 512 MiB; never are they forced on everyone.
  const std::string mode = read_file("/sys/kernel/mm/transparent_hugepage/enabled");
  if (mode.find("[always]") != std::string::npos || mode.find("madvise") == std::string::npos)
    return "mode is " + mode;
  if (std::string error = write_file("/sys/kernel/mm/transparent_hugepage/enabled", "madvise");
      !error.empty())
    return error;
  const std::string chosen = read_file("/sys/kernel/mm/transparent_hugepage/enabled");
  write_file("/sys/kernel/mm/transparent_hugepage/enabled",
             mode.find("[never]") != std::string::npos ? "never" : "madvise");
  return chosen.find("[madvise]") != std::string::npos ? "" : "madvise cannot be chosen: " + chosen;
}

std::string swap_calls() {
  // A file that is no swap area: EINVAL proves that the call exists.
  const std::string path = make_dir("swap") + "/file";
  close(open(path.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600));
  if (swapon(path.c_str(), 0) == 0 || errno != EINVAL) return failed("swapon of a file that is no swap area");
  return exists("/proc/swaps") ? "" : "no /proc/swaps";
}

std::string cross_memory() {
  int from = 7;
  int to = 0;
  const iovec local{&to, sizeof to};
  const iovec remote{&from, sizeof from};
  if (process_vm_readv(getpid(), &local, 1, &remote, 1, 0) != static_cast<ssize_t>(sizeof to))
    return failed("process_vm_readv");
  return to == 7 ? "" : "wrong value read";
}

std::string ptrace_child() {
  const pid_t child = fork();
  if (child == 0) {
    ptrace(PTRACE_TRACEME, 0, nullptr, nullptr);
    raise(SIGSTOP);
    _exit(7);
  }
  int status = 0;
  if (waitpid(child, &status, 0) < 0 || !WIFSTOPPED(status)) return "the traced child did not stop";
  errno = 0;
  ptrace(PTRACE_PEEKUSER, child, nullptr, nullptr);
  if (errno != 0) return failed("PTRACE_PEEKUSER");
  if (ptrace(PTRACE_CONT, child, nullptr, nullptr) < 0) return failed("PTRACE_CONT");
  waitpid(child, &status, 0);
  return WIFEXITED(status) && WEXITSTATUS(status) == 7 ? "" : "the traced child did not end";
}

std::string file_handles() {
  alignas(file_handle) std::array<unsigned char, sizeof(file_handle) + MAX_HANDLE_SZ> bytes{};
  auto* handle = static_cast<file_handle*>(static_cast<void*>(bytes.data()));
  handle->handle_bytes = MAX_HANDLE_SZ;
  int mount_id = 0;
  const std::string dir = make_dir("handles");
  return want_ok(name_to_handle_at(AT_FDCWD, dir.c_str(), handle, &mount_id, 0), "name_to_handle_at");
}

std::string small_calls() {
  if (syscall(SYS_membarrier, 0 /* QUERY */, 0, 0) <= 0) return failed("membarrier query");
  if (syscall(SYS_kcmp, getpid(), getpid(), 0, 0, 0) != 0) return failed("kcmp");
  const int pidfd = static_cast<int>(syscall(SYS_pidfd_open, getpid(), 0));
  if (pidfd < 0) return failed("pidfd_open");
  if (syscall(SYS_pkey_alloc, 0, 0) < 0 && errno != ENOSPC) return failed("pkey_alloc");
  // -1 addresses: EFAULT or EINVAL proves the call is there.
  if (syscall(451 /* cachestat */, -1, nullptr, nullptr, 0) == 0 || errno == ENOSYS)
    return failed("cachestat");
  if (syscall(SYS_rseq, nullptr, 0, 0, 0) == 0 || errno == ENOSYS) return failed("rseq");
  return {};
}

std::string modify_ldt_call() {
  user_desc entry{};
  entry.limit = 0xfffff;
  entry.seg_32bit = 1;
  entry.limit_in_pages = 1;
  return want_ok(syscall(SYS_modify_ldt, 1, &entry, sizeof entry), "modify_ldt");
}

std::string int80_32bit_calls() {
  // getpid by the 32-bit entry: number 20 there.
  long result = 0;
  asm volatile("int $0x80" : "=a"(result) : "a"(20L) : "memory", "r8", "r9", "r10", "r11");
  return result == getpid() ? "" : "int 0x80 getpid returned " + std::to_string(result);
}

std::string anonymous_vma_names() {
  constexpr int kPrSetVma = 0x53564d41;
  void* page = mmap(nullptr, kPage, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return want_ok(syscall(SYS_prctl, kPrSetVma, 0UL, page, kPage, "kernel_features"),
                 "prctl PR_SET_VMA_ANON_NAME");
}

std::string core_dumps() {
  const std::string pattern = read_file("/proc/sys/kernel/core_pattern");
  return pattern.empty() ? "no /proc/sys/kernel/core_pattern" : "";
}

std::string per_task_io_accounting() {
  return read_file("/proc/self/io").find("read_bytes") != std::string::npos ? "" : "no /proc/self/io";
}

std::string kernel_config_visible() {
  const std::string config = read_file("/proc/config.gz");
  return config.size() > 1000 && config[0] == '\x1f' ? "" : "no /proc/config.gz";
}

constexpr std::array<Check, 24> kChecks{{
    {"io_uring", io_uring},
    {"aio", aio},
    {"userfaultfd", userfaultfd},
    {"epoll_eventfd_timerfd_signalfd", epoll_and_event_descriptors},
    {"high_resolution_timers", high_resolution_timers},
    {"inotify", inotify},
    {"fanotify", fanotify},
    {"sysv_ipc", sysv_ipc},
    {"posix_mqueue", posix_mqueue},
    {"memfd_and_memfd_secret", memory_descriptors},
    {"hugetlb", hugetlb},
    {"transparent_huge_pages", transparent_huge_pages},
    {"swap", swap_calls},
    {"process_vm_readv", cross_memory},
    {"ptrace", ptrace_child},
    {"file_handles", file_handles},
    {"membarrier_kcmp_pidfd_pkeys_cachestat_rseq", small_calls},
    {"modify_ldt", modify_ldt_call},
    {"ia32_system_calls", int80_32bit_calls},
    {"anonymous_vma_names", anonymous_vma_names},
    {"core_pattern", core_dumps},
    {"task_io_accounting", per_task_io_accounting},
    {"config_gz", kernel_config_visible},
    {"psi", [] { return exists("/proc/pressure/memory") ? std::string() : "no /proc/pressure/memory"; }},
}};

}  // namespace

std::span<const Check> syscall_checks() { return kChecks; }

}  // namespace features
