// SPDX-License-Identifier: Apache-2.0
#include "vmm/sandbox_files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <map>

#include "base/clock.h"
#include "base/file.h"
#include "base/file_lock.h"
#include "base/json.h"
#include "base/socket.h"
#include "proto/control.h"

namespace msb::vmm {
namespace {

constexpr std::uint64_t kConsoleLimit = 256 * 1024;

Result<UniqueFd> open_directory(int parent, const char* name) {
  if (::mkdirat(parent, name, 0700) != 0 && errno != EEXIST) return sys_error(std::string("make ") + name);
  return open_at(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
}

// The last run's processes may be letting go still (after kill -9 the machine role's death takes as long as
// its memory is large), and whoever waits for an end holds the lock for a moment.
constexpr auto kLockPatience = std::chrono::seconds(3);

Status lock_patiently(int fd, const std::string& what) {
  auto locked = lock_exclusively(fd, SteadyClock().now() + kLockPatience);
  if (!locked) return std::move(locked).error().with_context(what);
  if (!*locked) return make_error(Errc::kBusy, "%s is in use by another process", what.c_str());
  return {};
}

Result<UniqueFd> duplicate(int fd) {
  UniqueFd copy(::fcntl(fd, F_DUPFD_CLOEXEC, 3));
  if (!copy) return sys_error("duplicate a descriptor");
  return copy;
}

Result<std::uint64_t> size_of(int fd, const std::string& path) {
  const off_t end = ::lseek(fd, 0, SEEK_END);
  if (end < 0) return sys_error("size of " + path);
  return static_cast<std::uint64_t>(end);
}

Result<DiskSpec> open_disk(const std::string& path, bool read_only, std::string id) {
  MSB_ASSIGN(UniqueFd file, open_file(path, read_only ? O_RDONLY : O_RDWR));
  if (!read_only) MSB_TRY(lock_patiently(file.get(), "disk " + path));
  MSB_ASSIGN(const std::uint64_t size, size_of(file.get(), path));
  if (size == 0 || size % 512 != 0) {
    return make_error(Errc::kInvalid, "disk %s: its size must be a positive multiple of 512 bytes",
                      path.c_str());
  }
  DiskSpec disk;
  disk.id = std::move(id);
  disk.read_only = read_only;
  disk.extents.push_back({std::move(file), 0, size});
  return disk;
}

Result<DiskSpec> open_root(const proto::VmSpec& spec) {
  DiskSpec disk;
  disk.id = "root";
  std::map<std::string, std::pair<int, std::uint64_t>> seen;  // path: descriptor of its first extent, size
  for (const auto& extent : spec.root) {
    const auto known = seen.find(extent.path);
    UniqueFd file;
    if (known == seen.end()) {
      MSB_ASSIGN(file, open_file(extent.path, O_RDONLY));
      MSB_ASSIGN(const std::uint64_t size, size_of(file.get(), extent.path));
      seen.emplace(extent.path, std::pair{file.get(), size});
    } else {
      MSB_ASSIGN(file, duplicate(known->second.first));
    }
    const std::uint64_t size = seen.at(extent.path).second;
    if (extent.offset > size || extent.length > size - extent.offset) {
      return make_error(Errc::kCorrupt, "root disk: %s ends before its extent; pull the image again",
                        extent.path.c_str());
    }
    disk.extents.push_back({std::move(file), extent.offset, extent.length});
  }
  return disk;
}

}  // namespace

Result<SandboxFiles> open_sandbox(const proto::VmSpec& spec) {
  SandboxFiles files;
  MSB_ASSIGN(files.directory, open_file(spec.dir, O_RDONLY | O_DIRECTORY));
  const int dir = files.directory.get();
  MSB_ASSIGN(files.lock, open_at(dir, "lock", O_RDWR | O_CREAT | O_NOFOLLOW));
  MSB_TRY(lock_patiently(files.lock.get(), "sandbox " + spec.name));
  MSB_ASSIGN(files.logs, open_directory(dir, "logs"));
  MSB_ASSIGN(files.run, open_directory(dir, "run"));
  MSB_ASSIGN(files.control_listener, listen_unix(files.run.get(), std::string(proto::kControlSocketName)));
  MSB_TRY(set_nonblocking(files.control_listener.get(), true));
  return files;
}

Result<MachineSpec> open_machine_files(const proto::VmSpec& spec, const SandboxFiles& files) {
  MachineSpec machine;
  machine.cpus_online = spec.cpus_online;
  machine.cpus_max = spec.cpus_max;
  machine.cpu_template = cpu_template_from_name(spec.cpu_template).value_or(CpuTemplate::kHost);
  machine.memory_bytes = spec.memory_mib << 20;
  machine.cmdline_extra = spec.cmdline_extra;
  machine.guest_config = spec.guest;
  MSB_ASSIGN(machine.kernel, open_file(spec.kernel, O_RDONLY));
  MSB_ASSIGN(machine.initrd, open_file(spec.initrd, O_RDONLY));
  MSB_ASSIGN(machine.console,
             open_at(files.logs.get(), "console.log", O_RDWR | O_CREAT | O_TRUNC | O_NOFOLLOW));
  machine.console_limit = kConsoleLimit;
  MSB_ASSIGN(DiskSpec root, open_root(spec));
  machine.disks.push_back(std::move(root));
  if (spec.upper) {
    MSB_ASSIGN(DiskSpec upper, open_disk(*spec.upper, false, "upper"));
    machine.disks.push_back(std::move(upper));
  }
  for (const auto& entry : spec.disks) {
    MSB_ASSIGN(DiskSpec disk, open_disk(entry.path, entry.read_only, entry.id));
    machine.disks.push_back(std::move(disk));
  }
  MSB_ASSIGN(machine.vsock_listener, listen_unix(files.run.get(), std::string(proto::kVsockSocketName)));
  return machine;
}

Result<std::string> hide_sandbox(const std::string& dir) {
  const std::string parent = parent_path(dir);
  MSB_ASSIGN(const UniqueFd home, open_file(parent, O_RDONLY | O_DIRECTORY));
  MSB_ASSIGN(const std::string name, hide_tree(home.get(), dir.substr(dir.rfind('/') + 1)));
  return parent + "/" + name;
}

Status remove_sandbox(const std::string& hidden) {
  MSB_ASSIGN(const UniqueFd home, open_file(parent_path(hidden), O_RDONLY | O_DIRECTORY));
  return remove_tree(home.get(), hidden.substr(hidden.rfind('/') + 1));
}

StateFile::StateFile(int dir_fd) : dir_fd_(dir_fd), started_ns_(wall_clock_ns()) {
  if (auto text = read_file("/proc/sys/kernel/random/boot_id", 64)) {
    boot_id_ = text->substr(0, text->find('\n'));
  }
  // "PID (NAME) STATE ...": NAME may hold anything, so fields are counted from its last parenthesis.
  if (auto text = read_file("/proc/self/stat", 4096)) {
    std::size_t at = text->rfind(')');
    for (int field = 2; field < 22 && at != std::string::npos; ++field) at = text->find(' ', at + 1);
    if (at != std::string::npos) start_time_ = std::strtoull(text->c_str() + at + 1, nullptr, 10);
  }
}

std::string StateFile::common(std::string_view state) const {
  JsonWriter out;
  out.begin_object().field("version", 1).field("state", state).field("boot_id", boot_id_);
  out.field("pid", static_cast<std::int64_t>(::getpid())).field("start_time", start_time_);
  out.field("started_ns", started_ns_).end_object();
  return std::move(out).take();
}

Status StateFile::write(std::string_view state) {
  return write_file_atomic(dir_fd_, "state.json", common(state), 0600, Durability::kBuffered);
}

Status StateFile::write_end(const std::string& end_json) {
  std::string text = common("stopped");
  text.pop_back();  // the closing brace
  return write_file_atomic(dir_fd_, "state.json", text + ",\"clean\":true,\"end\":" + end_json + "}", 0600,
                           Durability::kBuffered);
}

}  // namespace msb::vmm
