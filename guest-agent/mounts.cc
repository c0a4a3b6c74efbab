// SPDX-License-Identifier: Apache-2.0
#include "guest-agent/mounts.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cstdio>

#include "base/file.h"
#include "guest-agent/root_attributes.h"

namespace msb::agent {
namespace {

constexpr const char* kLower = "/lower";
constexpr const char* kUpper = "/upper";
constexpr const char* kNewRoot = "/newroot";

struct PseudoMount {
  const char* type;
  const char* target;  // below the new root
  mode_t mode;         // of the directory, where the image has none
  unsigned long flags;
  const char* data;
  bool fatal;
};
// Order matters: parents first. /proc and /dev are moved here from the ramdisk before.
constexpr unsigned long kStrict = MS_NOSUID | MS_NODEV | MS_NOEXEC;
constexpr std::array<PseudoMount, 6> kPseudoMounts{{
    {"sysfs", "sys", 0755, kStrict, nullptr, true},
    {"cgroup2", "sys/fs/cgroup", 0755, kStrict, "nsdelegate,memory_recursiveprot", false},
    {"devpts", "dev/pts", 0755, MS_NOSUID | MS_NOEXEC, "gid=5,mode=620,ptmxmode=666", true},
    {"tmpfs", "dev/shm", 01777, MS_NOSUID | MS_NODEV, "mode=1777", true},
    {"mqueue", "dev/mqueue", 01777, kStrict, nullptr, false},
    {"tmpfs", "run", 0755, MS_NOSUID | MS_NODEV, "mode=755", true},
}};

struct DeviceLink {
  const char* target;
  const char* path;
};
constexpr std::array<DeviceLink, 4> kDeviceLinks{{{"/proc/self/fd", "dev/fd"},
                                                  {"/proc/self/fd/0", "dev/stdin"},
                                                  {"/proc/self/fd/1", "dev/stdout"},
                                                  {"/proc/self/fd/2", "dev/stderr"}}};

std::string in_new_root(std::string_view path) {
  std::string out = kNewRoot;
  out += '/';
  out += path;
  return out;
}

// Every directory of an absolute path; those that exist stay as they are.
Status make_path(const std::string& path, mode_t mode) {
  for (std::size_t at = path.find('/', 1);; at = path.find('/', at + 1)) {
    const std::string part = path.substr(0, at);
    if (::mkdir(part.c_str(), mode) != 0 && errno != EEXIST) return sys_error("make directory " + part);
    if (at == std::string::npos) return {};
  }
}

Status mount_at(const char* source, const std::string& target, const char* type, unsigned long flags,
                const char* data) {
  if (::mount(source, target.c_str(), type, flags, data) == 0) return {};
  return sys_error(std::string("mount ") + type + " on " + target);
}

Status mount_upper(const proto::GuestConfig& config) {
  if (config.upper_device) {
    // discard: the host's sparse file gives back what the guest deletes.
    MSB_TRY(mount_at(("/dev/" + *config.upper_device).c_str(), kUpper, "ext4", MS_NOATIME, "discard"));
  } else {
    std::string data = "mode=755";
    if (config.upper_tmpfs_mib != 0) data += ",size=" + std::to_string(config.upper_tmpfs_mib) + "m";
    MSB_TRY(mount_at("tmpfs", kUpper, "tmpfs", MS_NOATIME, data.c_str()));
  }
  MSB_TRY(make_path("/upper/upper", 0755));
  MSB_TRY(make_path("/upper/work", 0755));
  return copy_root_attributes(kLower, "/upper/upper", "/upper/root-attributes-copied");
}

Status mount_overlay(const proto::GuestConfig& config) {
  // redirect_dir: renaming a directory of the image works instead of failing with EXDEV. index: hard links of
  // the image stay links when they are first written to.
  const char* options =
      "lowerdir=/lower,upperdir=/upper/upper,workdir=/upper/"
      "work,redirect_dir=on,xino=auto,index=off,metacopy=off";
  const std::string volatile_options = std::string(options) + ",volatile";
  // A tmpfs is gone with the machine: syncing to it is wasted.
  return mount_at("overlay", kNewRoot, "overlay", 0,
                  config.upper_device ? options : volatile_options.c_str());
}

Status mount_pseudo(std::vector<std::string>& warnings) {
  for (const char* name : {"proc", "dev"}) {
    const std::string target = in_new_root(name);
    MSB_TRY(make_path(target, 0755));
    if (::mount((std::string("/") + name).c_str(), target.c_str(), nullptr, MS_MOVE, nullptr) != 0) {
      return sys_error("move mount to " + target);
    }
  }
  for (const PseudoMount& entry : kPseudoMounts) {
    const std::string target = in_new_root(entry.target);
    // A directory inside a pseudo file system either is there or its mount fails.
    if (::mkdir(target.c_str(), entry.mode) != 0 && errno != EEXIST && entry.fatal) {
      return sys_error("make directory " + target);
    }
    const Status status = mount_at(entry.type, target, entry.type, entry.flags, entry.data);
    if (status.ok()) continue;
    if (entry.fatal) return status;
    warnings.push_back(Status(status).error().text);
  }
  for (const DeviceLink& link : kDeviceLinks) {
    [[maybe_unused]] const int made = ::symlink(link.target, in_new_root(link.path).c_str());
  }
  const std::string tmp = in_new_root("tmp");
  if (::mkdir(tmp.c_str(), 01777) == 0) ::chmod(tmp.c_str(), 01777);
  return {};
}

// Runs inside the new root, so that a link in the image cannot lead a mount into the ramdisk.
void mount_configured(const proto::GuestConfig& config, std::vector<std::string>& warnings) {
  for (const proto::GuestConfig::Mount& mount : config.mounts) {
    MountOptions options = parse_mount_options(mount.options);
    if (mount.size_mib != 0) {
      if (!options.data.empty()) options.data += ',';
      options.data += "size=" + std::to_string(mount.size_mib) + "m";
    }
    Status status = make_path(mount.target, 0755);
    if (status.ok()) {
      status = mount_at("tmpfs", mount.target, "tmpfs", options.flags | MS_NOSUID | MS_NODEV,
                        options.data.c_str());
    }
    if (!status.ok()) warnings.push_back(std::move(status).error().text);
  }
}

}  // namespace

MountOptions parse_mount_options(std::string_view text) {
  struct Flag {
    std::string_view name;
    unsigned long flag;
  };
  constexpr std::array<Flag, 7> kFlags{{{"ro", MS_RDONLY},
                                        {"nosuid", MS_NOSUID},
                                        {"nodev", MS_NODEV},
                                        {"noexec", MS_NOEXEC},
                                        {"noatime", MS_NOATIME},
                                        {"rw", 0},
                                        {"exec", 0}}};
  MountOptions options;
  while (!text.empty()) {
    const std::size_t comma = text.find(',');
    const std::string_view word = text.substr(0, comma);
    text.remove_prefix(comma == std::string_view::npos ? text.size() : comma + 1);
    bool known = word.empty();
    for (const Flag& flag : kFlags) {
      if (flag.name != word) continue;
      options.flags |= flag.flag;
      known = true;
    }
    if (known) continue;
    if (!options.data.empty()) options.data += ',';
    options.data += word;
  }
  return options;
}

Status mount_early() {
  ::mkdir("/proc", 0755);
  ::mkdir("/dev", 0755);
  MSB_TRY(mount_at("proc", "/proc", "proc", kStrict, nullptr));
  return mount_at("devtmpfs", "/dev", "devtmpfs", MS_NOSUID, "mode=755");
}

Result<UniqueFd> enter_root(const proto::GuestConfig& config, std::vector<std::string>& warnings) {
  UniqueFd old_root(::open("/", O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!old_root) return sys_error("open the ramdisk's root");
  for (const char* directory : {kLower, kUpper, kNewRoot}) MSB_TRY(make_path(directory, 0755));
  MSB_TRY(mount_at(("/dev/" + config.root_device).c_str(), kLower, config.root_fs.c_str(),
                   MS_RDONLY | MS_NOATIME, nullptr));
  MSB_TRY(mount_upper(config));
  MSB_TRY(mount_overlay(config));
  MSB_TRY(mount_pseudo(warnings));
  if (::chdir(kNewRoot) != 0 || ::mount(".", "/", nullptr, MS_MOVE, nullptr) != 0 || ::chroot(".") != 0 ||
      ::chdir("/") != 0) {
    return sys_error("enter the root file system");
  }
  mount_configured(config, warnings);
  return old_root;
}

void leave_root(int old_root) {
  ::sync();
  UniqueFd root(::open("/", O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!root || ::fchdir(old_root) != 0 || ::chroot(".") != 0) return;
  // The overlay is detached with all that is mounted on it; it is really gone with its last user: our own
  // descriptor.
  if (::fchdir(root.get()) == 0) ::umount2(".", MNT_DETACH);
  if (::fchdir(old_root) != 0) return;
  root.reset();
  if (::umount2(kUpper, 0) == 0) return;
  // Something still holds a file (a thread of ours in the middle of an operation). A frozen file system is
  // consistent on disk and needs no recovery.
  const UniqueFd upper(::open(kUpper, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (upper) ::ioctl(upper.get(), FIFREEZE, 0);
}

}  // namespace msb::agent
