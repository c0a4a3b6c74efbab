// SPDX-License-Identifier: Apache-2.0
//
// Filesystems: each is mounted and, where it can be written, its xattrs and ACLs are used.

#include "check.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <linux/loop.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <string>
#include <utility>

namespace features {
namespace {

std::string touch(const std::string& path) {
  const int fd = open(path.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0644);
  if (fd < 0) return failed("create " + path);
  close(fd);
  return {};
}

std::string mount_at(const char* source, const std::string& target, const char* type, unsigned long flags,
                     const std::string& data) {
  return want_ok(mount(source, target.c_str(), type, flags, data.c_str()), std::string("mount ") + type);
}

// A POSIX ACL as it is stored: version 2; user::rw-, user:1000:r--, group::r--, mask::r--, other::---.
constexpr std::array<unsigned char, 44> kAcl{{
    2,    0, 0, 0,                          // version
    0x01, 0, 6, 0, 0xff, 0xff, 0xff, 0xff,  // owner
    0x02, 0, 4, 0, 0xe8, 0x03, 0,    0,     // user 1000
    0x04, 0, 4, 0, 0xff, 0xff, 0xff, 0xff,  // group
    0x10, 0, 4, 0, 0xff, 0xff, 0xff, 0xff,  // mask
    0x20, 0, 0, 0, 0xff, 0xff, 0xff, 0xff,  // other
}};

// A version 2 file capability: CAP_NET_RAW, effective.
constexpr std::array<unsigned char, 20> kFileCapability{{0x01, 0, 0, 0x02, 0x00, 0x20}};

// User xattrs, POSIX ACLs, file capabilities and trusted xattrs on a writable filesystem.
std::string use_attributes(const std::string& dir) {
  const std::string file = dir + "/attributes";
  if (std::string error = touch(file); !error.empty()) return error;
  if (setxattr(file.c_str(), "user.kernel_features", "yes", 3, 0) < 0) return failed("setxattr user.");
  if (setxattr(file.c_str(), "system.posix_acl_access", kAcl.data(), kAcl.size(), 0) < 0)
    return failed("setxattr posix_acl_access");
  if (setxattr(file.c_str(), "security.capability", kFileCapability.data(), kFileCapability.size(), 0) < 0)
    return failed("setxattr security.capability");
  if (setxattr(file.c_str(), "trusted.kernel_features", "yes", 3, 0) < 0) return failed("setxattr trusted.");
  std::array<char, 64> value{};
  const ssize_t n = getxattr(file.c_str(), "user.kernel_features", value.data(), value.size());
  return n == 3 ? "" : failed("getxattr user.");
}

std::string tmpfs() {
  const std::string dir = make_dir("tmpfs");
  if (std::string error = mount_at("tmpfs", dir, "tmpfs", 0, "size=8m"); !error.empty()) return error;
  return use_attributes(dir);
}

std::string overlay_on(const std::string& options) {
  const std::string base = make_dir("overlay");
  if (std::string error = mount_at("tmpfs", base, "tmpfs", 0, ""); !error.empty()) return error;
  for (const char* name : {"/lower", "/upper", "/work", "/merged"}) mkdir((base + name).c_str(), 0755);
  if (std::string error = touch(base + "/lower/below"); !error.empty()) return error;
  const std::string data =
      "lowerdir=" + base + "/lower,upperdir=" + base + "/upper,workdir=" + base + "/work" + options;
  const std::string merged = base + "/merged";
  if (std::string error = mount_at("overlay", merged, "overlay", 0, data); !error.empty()) return error;
  if (unlink((merged + "/below").c_str()) < 0) return failed("unlink of a lower file");
  struct stat whiteout {};
  if (stat((base + "/upper/below").c_str(), &whiteout) < 0 || !S_ISCHR(whiteout.st_mode))
    return "no whiteout in the upper directory";
  return use_attributes(merged);
}

std::string overlay() { return overlay_on(""); }

std::string overlay_redirect_metacopy_xino() { return overlay_on(",redirect_dir=on,metacopy=on,xino=on"); }

std::string overlay_rootless() {
  // In a user namespace, as rootless container engines do: xattrs move to the user. prefix.
  const std::string base = make_dir("overlay_user");
  if (unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0) return failed("unshare");
  for (const auto& [file, text] :
       {std::pair{"/proc/self/uid_map", "0 0 1"}, std::pair{"/proc/self/setgroups", "deny"},
        std::pair{"/proc/self/gid_map", "0 0 1"}})
    if (std::string error = write_file(file, text); !error.empty()) return error;
  if (std::string error = mount_at("tmpfs", base, "tmpfs", 0, ""); !error.empty()) return error;
  for (const char* name : {"/lower", "/upper", "/work", "/merged"}) mkdir((base + name).c_str(), 0755);
  return mount_at(
      "overlay", base + "/merged", "overlay", 0,
      "lowerdir=" + base + "/lower,upperdir=" + base + "/upper,workdir=" + base + "/work,userxattr");
}

// Attaches an image to a fresh loop device; returns its path in `device`.
std::string attach_loop(const std::string& image, bool read_only, std::string& device) {
  const int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
  if (control < 0) return failed("open /dev/loop-control");
  const int number = ioctl(control, LOOP_CTL_GET_FREE);
  close(control);
  if (number < 0) return failed("LOOP_CTL_GET_FREE");
  device = "/dev/loop" + std::to_string(number);
  const int file = open(image.c_str(), (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC);
  if (file < 0) return failed("open " + image);
  const int loop = open(device.c_str(), (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC);
  if (loop < 0) return failed("open " + device);
  loop_config config{};
  config.fd = static_cast<__u32>(file);
  config.info.lo_flags = LO_FLAGS_AUTOCLEAR;
  if (read_only) config.info.lo_flags |= LO_FLAGS_READ_ONLY;
  // The descriptor stays open until the check's process ends: autoclear then frees the device.
  return want_ok(ioctl(loop, LOOP_CONFIGURE, &config), "LOOP_CONFIGURE");
}

std::string mount_image(const char* image, const char* type, bool read_only, std::string& dir) {
  std::string device;
  if (std::string error = attach_loop(images_dir + "/" + image, read_only, device); !error.empty())
    return error;
  dir = make_dir(type);
  return mount_at(device.c_str(), dir, type, read_only ? MS_RDONLY : 0, "");
}

std::string ext4() {
  std::string dir;
  if (std::string error = mount_image("ext4.img", "ext4", false, dir); !error.empty()) return error;
  return use_attributes(dir);
}

std::string ext4_over_overlay() {
  std::string dir;
  if (std::string error = mount_image("ext4.img", "ext4", false, dir); !error.empty()) return error;
  for (const char* name : {"/lower", "/upper", "/work", "/merged"}) mkdir((dir + name).c_str(), 0755);
  const std::string merged = dir + "/merged";
  if (std::string error =
          mount_at("overlay", merged, "overlay", 0,
                   "lowerdir=" + dir + "/lower,upperdir=" + dir + "/upper,workdir=" + dir + "/work");
      !error.empty())
    return error;
  return use_attributes(merged);
}

// The images hold a file `hello` containing "hello\n" with the xattr user.kernel_features=yes.
std::string read_hello(const std::string& dir) {
  if (read_file((dir + "/hello").c_str()) != "hello\n") return "the file in the image reads wrong";
  std::array<char, 64> value{};
  const ssize_t n = getxattr((dir + "/hello").c_str(), "user.kernel_features", value.data(), value.size());
  return n == 3 ? "" : failed("getxattr user.");
}

std::string erofs() {
  std::string dir;
  if (std::string error = mount_image("erofs.img", "erofs", true, dir); !error.empty()) return error;
  return read_hello(dir);
}

std::string erofs_lz4() {
  std::string dir;
  if (std::string error = mount_image("erofs-lz4.img", "erofs", true, dir); !error.empty()) return error;
  return read_hello(dir);
}

std::string squashfs() {
  std::string dir;
  if (std::string error = mount_image("squashfs.img", "squashfs", true, dir); !error.empty()) return error;
  return read_hello(dir);
}

std::string fuse() {
  const int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
  if (fd < 0) return failed("open /dev/fuse");
  const std::string dir = make_dir("fuse");
  const std::string data = "fd=" + std::to_string(fd) + ",rootmode=40000,user_id=0,group_id=0";
  return mount_at("kernel_features", dir, "fuse", MS_NOSUID | MS_NODEV, data);
}

bool known_filesystem(const char* name) {
  const std::string list = read_file("/proc/filesystems");
  return list.find(std::string("\t") + name + "\n") != std::string::npos;
}

std::string virtiofs() {
  if (!known_filesystem("virtiofs")) return "not in /proc/filesystems";
  return exists("/sys/bus/virtio/drivers/virtiofs") ? "" : "no virtiofs driver on the virtio bus";
}

std::string ext2_and_ext3() {
  return known_filesystem("ext2") && known_filesystem("ext3") ? "" : "not in /proc/filesystems";
}

std::string binfmt_misc() {
  const std::string dir = make_dir("binfmt");
  if (std::string error = mount_at("binfmt_misc", dir, "binfmt_misc", 0, ""); !error.empty()) return error;
  if (std::string error = write_file((dir + "/register").c_str(), ":kernel_features:E::kf-test::/bin/true:");
      !error.empty())
    return error;
  return write_file((dir + "/kernel_features").c_str(), "-1");
}

std::string small_filesystems() {
  for (const char* type : {"proc", "sysfs", "devtmpfs", "devpts", "mqueue", "hugetlbfs", "ramfs"}) {
    const std::string dir = make_dir(std::string("small_") + type);
    if (mount(type, dir.c_str(), type, 0, nullptr) < 0) return failed(std::string("mount ") + type);
  }
  return {};
}

std::string zram() {
  const std::string number = read_file("/sys/class/zram-control/hot_add");
  if (number.empty()) return "no /sys/class/zram-control/hot_add";
  const std::string name = "zram" + number.substr(0, number.find('\n'));
  const std::string algorithms = read_file(("/sys/block/" + name + "/comp_algorithm").c_str());
  if (algorithms.find("lz4") == std::string::npos || algorithms.find("zstd") == std::string::npos)
    return "compressors are " + algorithms;
  if (std::string error = write_file(("/sys/block/" + name + "/disksize").c_str(), "16M"); !error.empty())
    return error;
  write_file(("/sys/block/" + name + "/reset").c_str(), "1");
  return write_file("/sys/class/zram-control/hot_remove", number);
}

std::string idmapped_mounts() {
  // mount_setattr with no change: the call and the filesystem's support of clones are there.
  constexpr int kOpenTree = 428;
  constexpr unsigned kOpenTreeClone = 1;
  return want_ok(syscall(kOpenTree, AT_FDCWD, "/tmp", kOpenTreeClone), "open_tree clone");
}

constexpr std::array<Check, 17> kChecks{{
    {"tmpfs_xattr_acl_capabilities", tmpfs},
    {"overlayfs", overlay},
    {"overlayfs_redirect_metacopy_xino", overlay_redirect_metacopy_xino},
    {"overlayfs_rootless", overlay_rootless},
    {"ext4_xattr_acl_capabilities", ext4},
    {"overlayfs_on_ext4", ext4_over_overlay},
    {"ext2_ext3", ext2_and_ext3},
    {"erofs_loop_xattr", erofs},
    {"erofs_lz4", erofs_lz4},
    {"squashfs_loop_xattr", squashfs},
    {"fuse", fuse},
    {"virtiofs", virtiofs},
    {"binfmt_misc", binfmt_misc},
    {"proc_sysfs_devtmpfs_devpts_mqueue_hugetlbfs", small_filesystems},
    {"zram", zram},
    {"mount_api", idmapped_mounts},
    {"cgroup2_fs", [] { return known_filesystem("cgroup2") ? std::string() : "not in /proc/filesystems"; }},
}};

}  // namespace

std::span<const Check> filesystem_checks() { return kChecks; }

}  // namespace features
