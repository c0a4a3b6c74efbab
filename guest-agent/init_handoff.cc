// SPDX-License-Identifier: Apache-2.0
#include "guest-agent/init_handoff.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/unique_fd.h"

namespace msb::agent {
namespace {

std::vector<char*> pointers(const std::vector<std::string>& values) {
  std::vector<char*> out;
  for (const std::string& value : values) out.push_back(const_cast<char*>(value.c_str()));
  out.push_back(nullptr);
  return out;
}

// Process 1. Must never return: the kernel panics when it ends.
[[noreturn]] void become_init(const proto::GuestConfig::Init& init, int report) {
  std::vector<std::string> arguments{init.path};
  arguments.insert(arguments.end(), init.args.begin(), init.args.end());
  std::vector<std::string> environment = init.env;
  bool has_path = false;
  for (const std::string& entry : environment) has_path = has_path || entry.starts_with("PATH=");
  if (!has_path)
    environment.emplace_back("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
  const std::vector<char*> argv = pointers(arguments);
  const std::vector<char*> envp = pointers(environment);
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  ::execve(init.path.c_str(), argv.data(), envp.data());
  const int error = errno;
  [[maybe_unused]] const ssize_t written = ::write(report, &error, sizeof error);
  ::close(report);
  while (true) {
    if (::waitpid(-1, nullptr, 0) < 0) ::pause();
  }
}

}  // namespace

Result<std::string> find_init(const std::string& root) {
  // s6-overlay's is /init; Debian's /sbin/init is systemd where that is the init.
  constexpr std::array<const char*, 4> kPlaces = {"/sbin/init", "/init", "/usr/lib/systemd/systemd",
                                                  "/lib/systemd/systemd"};
  std::string places;
  for (const char* const place : kPlaces) {
    struct stat info {};
    const std::string path = root + place;
    if (::stat(path.c_str(), &info) == 0 && S_ISREG(info.st_mode) && ::access(path.c_str(), X_OK) == 0)
      return std::string(place);
    places += std::string(places.empty() ? "" : ", ") + place;
  }
  return make_error(Errc::kNotFound, "init auto: the image has no program at %s", places.c_str());
}

Status hand_over_init(const proto::GuestConfig::Init& init) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return sys_error("make a pipe");
  UniqueFd reader(ends[0]);
  UniqueFd writer(ends[1]);
  const pid_t child = ::fork();
  if (child < 0) return sys_error("fork");
  if (child > 0) {
    reader.reset();
    become_init(init, writer.get());
  }
  ::setsid();
  writer.reset();
  int error = 0;
  const ssize_t got = ::read(reader.get(), &error, sizeof error);
  if (got == ssize_t{sizeof error}) return sys_error("run init " + init.path, error);
  return {};
}

int init_stop_signal(const proto::GuestConfig& config) {
  constexpr int kPowerOffSystemd = 38;  // SIGRTMIN+4
  if (!config.init) return 0;
  const int configured = proto::signal_number(config.stop_signal).value_or(SIGTERM);
  if (configured != SIGTERM) return configured;
  char resolved[PATH_MAX];
  const std::string_view path = ::realpath(config.init->path.c_str(), resolved) != nullptr
                                    ? std::string_view(resolved)
                                    : config.init->path;
  if (path.ends_with("/systemd")) return kPowerOffSystemd;
  if (path.ends_with("/busybox")) return SIGUSR2;
  return configured;
}

namespace {
bool other_process_exists() {
  struct CloseDir {
    void operator()(DIR* directory) const { ::closedir(directory); }
  };
  const std::unique_ptr<DIR, CloseDir> proc(::opendir("/proc"));
  if (!proc) return false;
  while (const dirent* entry = ::readdir(proc.get())) {
    const int pid = static_cast<int>(std::strtol(entry->d_name, nullptr, 10));
    if (pid <= 1 || pid == ::getpid()) continue;
    // Kernel threads have no program.
    char target[8];
    if (::readlink((std::string("/proc/") + entry->d_name + "/exe").c_str(), target, sizeof target) > 0)
      return true;
  }
  return false;
}
}  // namespace

void wait_for_last_process(std::int64_t milliseconds) {
  constexpr std::int64_t kStepMs = 10;
  for (std::int64_t waited = 0; waited < milliseconds && other_process_exists(); waited += kStepMs) {
    const timespec step{0, kStepMs * 1'000'000};
    ::nanosleep(&step, nullptr);
  }
}

}  // namespace msb::agent
