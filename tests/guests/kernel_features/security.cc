// SPDX-License-Identifier: Apache-2.0
//
// Namespaces, cgroups and the calls with which programs sandbox themselves.

#include "check.h"

#include <fcntl.h>
#include <linux/audit.h>
#include <linux/bpf.h>
#include <linux/filter.h>
#include <linux/keyctl.h>
#include <linux/landlock.h>
#include <linux/perf_event.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cstddef>
#include <string>

namespace features {
namespace {

constexpr int kTimeNamespace = 0x80;  // CLONE_NEWTIME; older headers lack it

template <int kFlag>
std::string unshare_namespace() {
  return want_ok(unshare(kFlag), "unshare");
}

// As an unprivileged user: a user namespace first, everything else inside it.
std::string rootless_namespaces() {
  if (setresgid(1000, 1000, 1000) < 0 || setresuid(1000, 1000, 1000) < 0) return failed("setresuid");
  return want_ok(unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC |
                         CLONE_NEWUTS | CLONE_NEWCGROUP),
                 "unshare of everything as uid 1000");
}

std::string cgroup2_root() {
  const std::string dir = make_dir("cgroup2");
  if (mount("cgroup2", dir.c_str(), "cgroup2", 0, nullptr) < 0) return failed("mount cgroup2");
  const std::string have = " " + read_file((dir + "/cgroup.controllers").c_str()) + " ";
  std::string missing;
  for (const char* name : {"cpuset", "cpu", "io", "memory", "hugetlb", "pids"}) {
    const std::size_t at = have.find(std::string(" ") + name);
    if (at == std::string::npos) missing += std::string(" ") + name;
  }
  return missing.empty() ? "" : "controllers missing:" + missing + " (have" + have + ")";
}

std::string cgroup2_freeze_and_kill() {
  const std::string dir = make_dir("cgroup2b");
  if (mount("cgroup2", dir.c_str(), "cgroup2", 0, nullptr) < 0) return failed("mount cgroup2");
  const std::string group = dir + "/kernel_features";
  if (mkdir(group.c_str(), 0755) < 0 && errno != EEXIST) return failed("mkdir of a cgroup");
  for (const char* file : {"/cgroup.freeze", "/cgroup.kill", "/cpu.stat"})
    if (!exists((group + file).c_str())) return std::string("no ") + file;
  return want_ok(rmdir(group.c_str()), "rmdir of a cgroup");
}

std::string seccomp_filter() {
  // getppid is refused with EPERM, everything else is allowed.
  std::array<sock_filter, 4> program{{
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getppid, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  }};
  const sock_fprog filter{program.size(), program.data()};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) return failed("PR_SET_NO_NEW_PRIVS");
  if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &filter) < 0) return failed("seccomp");
  if (syscall(SYS_getppid) >= 0 || errno != EPERM) return "the filter did not act";
  // User notification, which container engines use, needs its own descriptor flag.
  return want_ok(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &filter),
                 "seccomp listener");
}

std::string landlock() {
  const long abi = syscall(SYS_landlock_create_ruleset, nullptr, 0, LANDLOCK_CREATE_RULESET_VERSION);
  if (abi < 0) return failed("landlock_create_ruleset");
  if (abi < 6) return "ABI is " + std::to_string(abi) + ", want 6";
  landlock_ruleset_attr attr{};
  attr.handled_access_fs = LANDLOCK_ACCESS_FS_READ_FILE;
  const int ruleset = static_cast<int>(syscall(SYS_landlock_create_ruleset, &attr, sizeof attr, 0));
  if (ruleset < 0) return failed("landlock_create_ruleset");
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) return failed("PR_SET_NO_NEW_PRIVS");
  if (syscall(SYS_landlock_restrict_self, ruleset, 0) < 0) return failed("landlock_restrict_self");
  return open("/proc/self/status", O_RDONLY) < 0 && errno == EACCES
             ? ""
             : "a file outside the rules could be opened";
}

// The smallest program: r0 = 1; exit.
constexpr std::array<bpf_insn, 2> kReturnOne{{
    {BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_0, 0, 0, 1},
    {BPF_JMP | BPF_EXIT, 0, 0, 0, 0},
}};

int load_bpf(__u32 type, __u32 attach_type) {
  bpf_attr attr{};
  attr.prog_type = type;
  attr.expected_attach_type = attach_type;
  attr.insns = reinterpret_cast<std::uintptr_t>(kReturnOne.data());
  attr.insn_cnt = kReturnOne.size();
  attr.license = reinterpret_cast<std::uintptr_t>("Apache-2.0");
  return static_cast<int>(syscall(SYS_bpf, BPF_PROG_LOAD, &attr, sizeof attr));
}

std::string bpf_programs() {
  if (load_bpf(BPF_PROG_TYPE_SOCKET_FILTER, 0) < 0) return failed("BPF_PROG_LOAD of a socket filter");
  bpf_attr map{};
  map.map_type = BPF_MAP_TYPE_HASH;
  map.key_size = 4;
  map.value_size = 8;
  map.max_entries = 16;
  if (syscall(SYS_bpf, BPF_MAP_CREATE, &map, sizeof map) < 0) return failed("BPF_MAP_CREATE");
  const std::string jit = read_file("/proc/sys/net/core/bpf_jit_enable");
  return jit.starts_with("1") ? "" : "the JIT is off";
}

std::string bpf_cgroup_devices() {
  const int program = load_bpf(BPF_PROG_TYPE_CGROUP_DEVICE, 0);
  if (program < 0) return failed("BPF_PROG_LOAD of a cgroup device program");
  const std::string dir = make_dir("cgroup2c");
  if (mount("cgroup2", dir.c_str(), "cgroup2", 0, nullptr) < 0) return failed("mount cgroup2");
  const std::string group = dir + "/kernel_features_bpf";
  if (mkdir(group.c_str(), 0755) < 0 && errno != EEXIST) return failed("mkdir of a cgroup");
  bpf_attr attr{};
  attr.target_fd = static_cast<__u32>(open(group.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  attr.attach_bpf_fd = static_cast<__u32>(program);
  attr.attach_type = BPF_CGROUP_DEVICE;
  const std::string error = want_ok(syscall(SYS_bpf, BPF_PROG_ATTACH, &attr, sizeof attr), "BPF_PROG_ATTACH");
  rmdir(group.c_str());
  return error;
}

std::string perf_software_event() {
  perf_event_attr attr{};
  attr.type = PERF_TYPE_SOFTWARE;
  attr.size = sizeof attr;
  attr.config = PERF_COUNT_SW_PAGE_FAULTS;
  const int fd = static_cast<int>(syscall(SYS_perf_event_open, &attr, 0, -1, -1, 0));
  if (fd < 0) return failed("perf_event_open of page faults");
  auto* fresh = static_cast<volatile char*>(
      mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  fresh[0] = 1;
  long count = 0;
  if (read(fd, &count, sizeof count) != static_cast<ssize_t>(sizeof count))
    return failed("read of the counter");
  return count > 0 ? "" : "no page fault was counted";
}

std::string keyrings() {
  return want_ok(syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, "kernel_features"), "keyctl");
}

constexpr std::array<Check, 18> kChecks{{
    {"namespace_mount", unshare_namespace<CLONE_NEWNS>},
    {"namespace_uts", unshare_namespace<CLONE_NEWUTS>},
    {"namespace_ipc", unshare_namespace<CLONE_NEWIPC>},
    {"namespace_pid", unshare_namespace<CLONE_NEWPID>},
    {"namespace_net", unshare_namespace<CLONE_NEWNET>},
    {"namespace_user", unshare_namespace<CLONE_NEWUSER>},
    {"namespace_cgroup", unshare_namespace<CLONE_NEWCGROUP>},
    {"namespace_time", unshare_namespace<kTimeNamespace>},
    {"namespaces_rootless", rootless_namespaces},
    {"cgroup2_controllers", cgroup2_root},
    {"cgroup2_freeze_and_kill", cgroup2_freeze_and_kill},
    {"seccomp_filter", seccomp_filter},
    {"landlock", landlock},
    {"bpf", bpf_programs},
    {"bpf_cgroup_device", bpf_cgroup_devices},
    {"perf_software_events", perf_software_event},
    {"keyrings", keyrings},
    {"no_new_privs", [] { return want_ok(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "PR_SET_NO_NEW_PRIVS"); }},
}};

}  // namespace

std::span<const Check> security_checks() { return kChecks; }

}  // namespace features
