// SPDX-License-Identifier: Apache-2.0
#include "guest-agent/guest_setup.h"

#include <fcntl.h>
#include <linux/random.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstring>

#include "base/file.h"
#include "guest-agent/net_setup.h"

namespace msb::agent {
namespace {

constexpr const char* kSessionsGroup = "/sys/fs/cgroup/msb";
constexpr rlim_t kOpenFilesSoft = 65'536;
constexpr rlim_t kOpenFilesHard = 1'048'576;
// Processes kept free for the agent, the kernel and a rescue shell when sessions use up all others.
constexpr std::uint64_t kReservedProcesses = 512;

// Gives `path` these contents, without following a link that the image or a program put there and without
// writing what is already so (a write means a copy in the upper layer).
Status replace_contents(const std::string& path, std::string_view contents, mode_t mode) {
  struct stat info {};
  if (::lstat(path.c_str(), &info) == 0) {
    if (S_ISREG(info.st_mode) && static_cast<std::uint64_t>(info.st_size) == contents.size()) {
      const auto current = read_file(path, contents.size());
      if (current.ok() && *current == contents && (info.st_mode & 07777) == mode) return {};
    }
    if (!S_ISREG(info.st_mode) && ::unlink(path.c_str()) != 0) return sys_error("replace " + path);
  } else {
    MSB_TRY(make_directories(parent_path(path), 0755));
  }
  MSB_ASSIGN(const UniqueFd fd, open_file(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, mode));
  MSB_TRY(write_all(fd.get(), contents));
  if (::fchmod(fd.get(), mode) != 0) return sys_error("set the mode of " + path);
  return {};
}

Status write_existing(const std::string& path, std::string_view text) {
  MSB_ASSIGN(const UniqueFd fd, open_file(path, O_WRONLY));
  return write_all(fd.get(), text);
}

void note(Status status, std::vector<std::string>& warnings) {
  if (!status.ok()) warnings.push_back(std::move(status).error().text);
}

std::uint64_t thread_limit() {
  std::uint64_t limit = 32'768;
  for (const char* path : {"/proc/sys/kernel/threads-max", "/proc/sys/kernel/pid_max"}) {
    const std::string text = read_file(path, 64).value_or(std::string());
    std::uint64_t value = 0;
    std::from_chars(text.data(), text.data() + text.size(), value);
    if (value != 0) limit = std::min(limit, value);
  }
  return limit;
}

}  // namespace

Result<proto::GuestConfig> take_boot_config() {
  const std::string path(proto::kBootConfigPath);
  MSB_ASSIGN(std::string text, read_file(path, proto::kBootConfigLimits.max_bytes));
  ::unlink(path.c_str());
  auto config = proto::from_json<proto::GuestConfig>(text, proto::kBootConfigLimits);
  ::explicit_bzero(text.data(), text.size());
  return std::move(config).with_context(path);
}

void seed_and_set_clock(proto::GuestConfig& config, std::vector<std::string>& warnings) {
  if (!config.entropy.empty()) {
    // rand_pool_info ends in an array of words: header and seed in one buffer.
    std::vector<int> pool(2 + (config.entropy.size() + sizeof(int) - 1) / sizeof(int));
    pool[0] = static_cast<int>(config.entropy.size() * 8);
    pool[1] = static_cast<int>(config.entropy.size());
    std::memcpy(pool.data() + 2, config.entropy.data(), config.entropy.size());
    const UniqueFd random(::open("/dev/urandom", O_RDONLY | O_CLOEXEC));
    if (!random || ::ioctl(random.get(), RNDADDENTROPY, pool.data()) != 0) {
      warnings.push_back(sys_error("seed the random number generator").text);
    }
    ::explicit_bzero(pool.data(), pool.size() * sizeof(int));
    ::explicit_bzero(config.entropy.data(), config.entropy.size());
    config.entropy.clear();
  }
  if (config.clock_ns != 0) {
    const timespec now{static_cast<time_t>(config.clock_ns / 1'000'000'000),
                       static_cast<long>(config.clock_ns % 1'000'000'000)};
    if (::clock_settime(CLOCK_REALTIME, &now) != 0) warnings.push_back(sys_error("set the clock").text);
  }
}

void write_guest_files(const proto::GuestConfig& config, std::vector<std::string>& warnings) {
  if (::sethostname(config.hostname.data(), config.hostname.size()) != 0) {
    warnings.push_back(sys_error("set the host name").text);
  }
  note(replace_contents("/etc/hostname", config.hostname + "\n", 0644), warnings);
  note(replace_contents("/etc/hosts", hosts_file(config), 0644), warnings);
  if (config.net && !config.net->dns.empty()) {
    note(replace_contents("/etc/resolv.conf", resolv_conf(*config.net), 0644), warnings);
  }
  // As container runtimes do: the image's working directory need not be in a layer.
  if (!config.workdir.empty() && config.workdir.front() == '/' &&
      ::access(config.workdir.c_str(), F_OK) != 0) {
    note(make_directories(config.workdir, 0755), warnings);
  }
  for (const proto::GuestConfig::File& file : config.files) {
    note(replace_contents(file.path, file.data, file.mode), warnings);
  }
}

void set_limits(std::vector<std::string>& warnings) {
  const rlimit files{kOpenFilesSoft, kOpenFilesHard};
  if (::setrlimit(RLIMIT_NOFILE, &files) != 0)
    warnings.push_back(sys_error("raise the limit of open files").text);
  const rlimit unlimited{RLIM_INFINITY, RLIM_INFINITY};
  ::setrlimit(RLIMIT_NPROC, &unlimited);
  note(write_existing("/proc/self/oom_score_adj", "-1000"), warnings);
}

void quieten_kernel() {
  // Its thread looks twice a second whether memory wants compacting: the only thing that wakes an idle guest.
  // Compaction on demand stays.
  static_cast<void>(write_existing("/proc/sys/vm/compaction_proactiveness", "0").ok());
}

SessionsGroup make_sessions_group(std::vector<std::string>& warnings) {
  SessionsGroup group;
  // Each controller on its own: a kernel without one must not lose the others.
  for (const char* controller : {"+memory", "+pids"}) {
    note(write_existing("/sys/fs/cgroup/cgroup.subtree_control", controller), warnings);
  }
  const std::string path = kSessionsGroup;
  if (::mkdir(path.c_str(), 0755) != 0 && errno != EEXIST) {
    warnings.push_back(sys_error("make control group " + path).text);
    return group;
  }
  const std::uint64_t limit = thread_limit();
  const std::uint64_t processes = limit - std::min(limit / 4, kReservedProcesses);
  note(write_existing(path + "/pids.max", std::to_string(processes)), warnings);
  group.directory.reset(::open(path.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  group.memory_events.reset(::open((path + "/memory.events").c_str(), O_RDONLY | O_CLOEXEC));
  return group;
}

std::uint64_t read_oom_kills(int memory_events) {
  char buffer[512];
  const ssize_t got = ::pread(memory_events, buffer, sizeof buffer, 0);
  if (got <= 0) return 0;
  std::string_view text(buffer, static_cast<std::size_t>(got));
  constexpr std::string_view kKey = "\noom_kill ";
  const std::size_t at = text.find(kKey);
  if (at == std::string_view::npos) return 0;
  text.remove_prefix(at + kKey.size());
  std::uint64_t value = 0;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

}  // namespace msb::agent
