// SPDX-License-Identifier: Apache-2.0
//
// Asserts, inside a guest, that the guest kernel can do what the project promises. Static, so that it runs in
// any image; also runs as PID 1 of a bare boot (kernel-config/test-in-qemu), where it mounts what it needs
// and powers off.
//
//   kernel_features [--images DIR] [--filter TEXT] [--list]
//
// Prints `ok NAME` or `FAIL NAME: why` per check and a total line; exits 1 when a check failed. Must run as
// root.

#include "check.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <vector>

namespace features {

std::string images_dir = "/images";

namespace {
constexpr const char* kWorkDir = "/tmp/kernel_features";
constexpr unsigned kCheckSeconds = 60;  // a hanging check is a failed check
}  // namespace

std::string read_file(const char* path) {
  const int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return {};
  std::string text(64 * 1024, '\0');
  std::size_t used = 0;
  while (used < text.size()) {
    const ssize_t n = read(fd, text.data() + used, text.size() - used);
    if (n <= 0) break;
    used += static_cast<std::size_t>(n);
  }
  close(fd);
  text.resize(used);
  return text;
}

std::string write_file(const char* path, std::string_view text) {
  const int fd = open(path, O_WRONLY | O_CLOEXEC);
  if (fd < 0) return failed(std::string("open ") + path);
  const ssize_t n = write(fd, text.data(), text.size());
  const std::string error = n < 0 ? failed(std::string("write ") + path) : std::string();
  close(fd);
  return error;
}

std::string make_dir(std::string_view name) {
  std::string path = std::string(kWorkDir) + "/" + std::string(name);
  mkdir(path.c_str(), 0755);
  return path;
}

bool exists(const char* path) {
  struct stat st {};
  return lstat(path, &st) == 0;
}

namespace {

// Runs one check in a child; the sentence comes back through a pipe.
std::string run_isolated(CheckFn check) {
  std::array<int, 2> ends{};
  if (pipe2(ends.data(), O_CLOEXEC) < 0) return failed("pipe2");
  const pid_t child = fork();
  if (child < 0) return failed("fork");
  if (child == 0) {
    close(ends[0]);
    alarm(kCheckSeconds);
    // Mounts that a check leaves behind go away with it.
    unshare(CLONE_NEWNS);
    mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr);
    const std::string error = check();
    // A short write loses the end of a sentence only.
    (void)!write(ends[1], error.data(), std::min<std::size_t>(error.size(), 1000));
    _exit(error.empty() ? 0 : 1);
  }
  close(ends[1]);
  std::string error;
  std::array<char, 1024> buffer{};
  for (ssize_t n = 0; (n = read(ends[0], buffer.data(), buffer.size())) > 0;)
    error.append(buffer.data(), static_cast<std::size_t>(n));
  close(ends[0]);
  int status = 0;
  if (waitpid(child, &status, 0) < 0) return failed("waitpid");
  if (WIFSIGNALED(status)) return "killed by signal " + std::to_string(WTERMSIG(status));
  if (WEXITSTATUS(status) != 0 && error.empty()) return "failed without a reason";
  return error;
}

struct Mount {
  const char* type;
  const char* target;
  const char* data;
};

// As PID 1 of a bare boot nothing is mounted yet and there may be no console: the kernel log carries the
// output.
void become_init() {
  constexpr std::array<Mount, 6> mounts{{{"devtmpfs", "/dev", nullptr},
                                         {"proc", "/proc", nullptr},
                                         {"sysfs", "/sys", nullptr},
                                         {"tmpfs", "/tmp", "mode=1777"},
                                         {"cgroup2", "/sys/fs/cgroup", nullptr},
                                         {"devpts", "/dev/pts", "mode=620,ptmxmode=666"}}};
  for (const Mount& m : mounts) {
    mkdir(m.target, 0755);
    if (mount(m.type, m.target, m.type, MS_NOSUID, m.data) < 0) std::perror(m.target);
  }
  const int log = open("/dev/kmsg", O_WRONLY);
  if (log >= 0 && fcntl(STDOUT_FILENO, F_GETFD) < 0) {
    dup2(log, STDIN_FILENO);
    dup2(log, STDOUT_FILENO);
    dup2(log, STDERR_FILENO);
  }
}

// One write per line: the kernel log makes each write a record. Priority 0 passes `quiet`.
void print_line(bool as_init, const std::string& line) {
  const std::string text = (as_init ? "<0>" : "") + line + "\n";
  (void)!write(STDOUT_FILENO, text.data(), text.size());
}

std::vector<Check> all_checks() {
  std::vector<Check> all;
  for (const auto part : {syscall_checks(), security_checks(), filesystem_checks(), machine_checks(),
                          network_checks(), netfilter_checks(), closed_checks()})
    all.insert(all.end(), part.begin(), part.end());
  return all;
}

int run(bool as_init, std::string_view filter, bool list) {
  int passed = 0;
  int failed_count = 0;
  for (const Check& check : all_checks()) {
    if (std::string_view(check.name).find(filter) == std::string_view::npos) continue;
    if (list) {
      print_line(as_init, check.name);
      continue;
    }
    const std::string error = run_isolated(check.run);
    if (error.empty()) {
      passed++;
      print_line(as_init, std::string("ok ") + check.name);
    } else {
      failed_count++;
      print_line(as_init, std::string("FAIL ") + check.name + ": " + error);
    }
  }
  if (list) return 0;
  print_line(as_init, "kernel_features: " + std::to_string(passed) + " passed, " +
                          std::to_string(failed_count) + " failed");
  return failed_count == 0 && passed > 0 ? 0 : 1;
}

}  // namespace
}  // namespace features

int main(int argc, char** argv) {
  const bool as_init = getpid() == 1;
  std::string_view filter;
  bool list = false;
  // The kernel hands words of its command line that it does not know to init: only known options count there.
  for (int i = 1; i < argc; i++) {
    const std::string_view arg = argv[i];
    if (arg == "--images" && i + 1 < argc) {
      features::images_dir = argv[++i];
    } else if (arg == "--filter" && i + 1 < argc) {
      filter = argv[++i];
    } else if (arg == "--list") {
      list = true;
    } else if (!as_init) {
      std::fprintf(stderr, "usage: kernel_features [--images DIR] [--filter TEXT] [--list]\n");
      return 2;
    }
  }
  if (as_init) features::become_init();
  mkdir(features::kWorkDir, 0755);
  mount("tmpfs", features::kWorkDir, "tmpfs", 0, nullptr);
  const int code = features::run(as_init, filter, list);
  if (!as_init) {
    umount2(features::kWorkDir, MNT_DETACH);
    return code;
  }
  sync();
  reboot(RB_AUTOBOOT);
  return code;
}
