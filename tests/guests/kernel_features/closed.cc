// SPDX-License-Identifier: Apache-2.0
//
// The interfaces that must not be there, even for root in the guest.

#include "check.h"

#include <linux/perf_event.h>
#include <signal.h>
#include <sys/io.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <string>

namespace features {
namespace {

std::string absent(std::initializer_list<const char*> paths) {
  for (const char* path : paths)
    if (exists(path)) return std::string(path) + " exists";
  return {};
}

// Passes when the call says that it does not exist.
std::string no_call(long result, std::string_view what) {
  if (result >= 0) return std::string(what) + " succeeded";
  return errno == ENOSYS ? "" : failed(what);
}

std::string no_memory_devices() {
  return absent({"/dev/mem", "/dev/kmem", "/dev/port", "/proc/kcore", "/dev/cpu/0/msr"});
}

std::string no_debug_filesystems() {
  const std::string dir = make_dir("debug");
  for (const char* type : {"debugfs", "tracefs"})
    if (mount(type, dir.c_str(), type, 0, nullptr) == 0 || errno != ENODEV)
      return std::string(type) + " could be mounted";
  return absent({"/sys/kernel/debug", "/sys/kernel/tracing", "/proc/sysrq-trigger"});
}

std::string no_kexec() { return no_call(syscall(SYS_kexec_load, 0, 0, nullptr, 0), "kexec_load"); }

std::string no_modules() { return no_call(syscall(SYS_init_module, nullptr, 0, ""), "init_module"); }

std::string no_port_access() {
  if (std::string error = no_call(iopl(3), "iopl"); !error.empty()) return error;
  return no_call(ioperm(0x3f8, 8, 1), "ioperm");
}

std::string no_x32() {
  constexpr long kX32Bit = 0x40000000;
  return no_call(syscall(kX32Bit | SYS_getpid), "x32 getpid");
}

std::string no_kprobe_events() {
  // Dynamic kernel probes through perf have a PMU of their own in sysfs.
  return absent({"/sys/bus/event_source/devices/kprobe", "/sys/bus/event_source/devices/tracepoint"});
}

std::string no_unprivileged_bpf() {
  const std::string mode = read_file("/proc/sys/kernel/unprivileged_bpf_disabled");
  return mode == "2\n" || mode == "1\n" ? "" : "unprivileged_bpf_disabled is " + mode;
}

std::string vsyscall_page_not_readable() {
  const pid_t child = fork();
  if (child == 0) {
    const auto* page = reinterpret_cast<const volatile unsigned char*>(0xffffffffff600000UL);
    _exit(page[0] == 0 ? 0 : 1);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV ? "" : "the vsyscall page could be read";
}

std::string addresses_hidden() {
  // Root sees symbol addresses in /proc/kallsyms; everyone else must see zeros.
  if (setresgid(1000, 1000, 1000) < 0 || setresuid(1000, 1000, 1000) < 0) return failed("setresuid");
  const std::string symbols = read_file("/proc/kallsyms");
  return symbols.empty() || symbols.starts_with("0000000000000000 ")
             ? ""
             : "kernel addresses are visible to uid 1000";
}

std::string no_null_mapping() {
  return read_file("/proc/sys/vm/mmap_min_addr") == "65536\n" ? "" : "vm.mmap_min_addr is not 65536";
}

// Each vulnerability file must not say plain "Vulnerable": the CPU is safe, or something acts.
std::string mitigations_on() {
  std::string open;
  for (const char* name : {"meltdown", "spectre_v1", "spectre_v2", "l1tf", "retbleed", "spec_rstack_overflow",
                           "indirect_target_selection", "tsa"}) {
    const std::string text =
        read_file((std::string("/sys/devices/system/cpu/vulnerabilities/") + name).c_str());
    if (text.empty()) return std::string("no vulnerabilities/") + name;
    if (text == "Vulnerable\n") open += std::string(" ") + name;
  }
  return open.empty() ? "" : "without mitigation:" + open;
}

constexpr std::array<Check, 12> kChecks{{
    {"closed_memory_devices", no_memory_devices},
    {"closed_debug_filesystems", no_debug_filesystems},
    {"closed_kexec", no_kexec},
    {"closed_modules", no_modules},
    {"closed_io_ports", no_port_access},
    {"closed_x32", no_x32},
    {"closed_kprobes", no_kprobe_events},
    {"closed_unprivileged_bpf", no_unprivileged_bpf},
    {"closed_vsyscall_reads", vsyscall_page_not_readable},
    {"closed_kernel_addresses", addresses_hidden},
    {"closed_null_mapping", no_null_mapping},
    {"mitigations", mitigations_on},
}};

}  // namespace

std::span<const Check> closed_checks() { return kChecks; }

}  // namespace features
