// SPDX-License-Identifier: Apache-2.0
#include "guest-agent/tree_walk.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/sendfile.h>
#include <unistd.h>

#include <memory>
#include <vector>

#include "base/unique_fd.h"
#include "proto/file_ops.h"

namespace msb::agent {
namespace {

constexpr std::size_t kCopyStep = std::size_t{1} << 20;

struct CloseDir {
  void operator()(DIR* directory) const { ::closedir(directory); }
};
using Directory = std::unique_ptr<DIR, CloseDir>;

bool is_dots(const char* name) {
  return name[0] == '.' && (name[1] == '\0' || (name[1] == '.' && name[2] == '\0'));
}

using Visit = std::function<Status(const WalkEntry&)>;

Status walk_directory(UniqueFd fd, const std::string& prefix, int depth, const Visit& visit) {
  if (depth > kMaxTreeDepth) {
    return make_error(Errc::kLimit, "walk %s: nested deeper than %d", prefix.c_str(), kMaxTreeDepth);
  }
  const Directory directory(::fdopendir(fd.get()));
  if (!directory) return sys_error("open directory " + prefix);
  const int dir_fd = fd.release();  // the stream closes it
  while (true) {
    errno = 0;
    const dirent* found = ::readdir(directory.get());
    if (found == nullptr) {
      if (errno != 0) return sys_error("read directory " + prefix);
      return {};
    }
    if (is_dots(found->d_name)) continue;
    WalkEntry entry;
    entry.dir_fd = dir_fd;
    entry.name = found->d_name;
    entry.path = prefix.empty() ? entry.name : prefix + "/" + entry.name;
    if (::fstatat(dir_fd, found->d_name, &entry.info, AT_SYMLINK_NOFOLLOW) != 0) {
      if (errno == ENOENT) continue;
      return sys_error("look at " + entry.path);
    }
    MSB_TRY(visit(entry));
    if (!S_ISDIR(entry.info.st_mode)) continue;
    UniqueFd below(::openat(dir_fd, entry.name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (!below) {
      if (errno == ENOENT || errno == ENOTDIR || errno == ELOOP) continue;
      return sys_error("open directory " + entry.path);
    }
    MSB_TRY(walk_directory(std::move(below), entry.path, depth + 1, visit));
  }
}

Status keep_times(int dir_fd, const std::string& name, const struct stat& info) {
  const timespec times[2] = {info.st_atim, info.st_mtim};
  if (::utimensat(dir_fd, name.c_str(), times, AT_SYMLINK_NOFOLLOW) != 0)
    return sys_error("set the times of " + name);
  return {};
}

// One thing that is not a directory, to the path `to`.
Status copy_one(int dir_fd, const std::string& name, const struct stat& info, const std::string& to,
                bool no_replace) {
  struct stat old {};
  if (::lstat(to.c_str(), &old) == 0) {
    if (no_replace) return sys_error("create " + to, EEXIST);
    if (old.st_dev == info.st_dev && old.st_ino == info.st_ino) {
      return make_error(Errc::kInvalid, "copy %s: source and target are the same file", to.c_str());
    }
    if (::unlink(to.c_str()) != 0) return sys_error("replace " + to);
  }
  if (S_ISLNK(info.st_mode)) {
    MSB_ASSIGN(const std::string target, read_link(dir_fd, name));
    if (::symlink(target.c_str(), to.c_str()) != 0) return sys_error("make link " + to);
  } else if (S_ISREG(info.st_mode)) {
    const UniqueFd source(::openat(dir_fd, name.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC));
    if (!source) return sys_error("open " + name);
    const UniqueFd target(::open(to.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    if (!target) return sys_error("create " + to);
    MSB_TRY(copy_contents(source.get(), target.get()).with_context(to));
  } else if (::mknod(to.c_str(), info.st_mode, info.st_rdev) != 0) {
    return sys_error("make " + to);
  }
  if (::lchown(to.c_str(), info.st_uid, info.st_gid) != 0) return sys_error("set the owner of " + to);
  if (!S_ISLNK(info.st_mode) && ::chmod(to.c_str(), info.st_mode & 07777) != 0) {
    return sys_error("set the mode of " + to);
  }
  return keep_times(AT_FDCWD, to, info);
}

Status copy_directory(const struct stat& info, const std::string& to) {
  if (::mkdir(to.c_str(), 0700) != 0) {
    struct stat old {};
    if (errno != EEXIST || ::stat(to.c_str(), &old) != 0 || !S_ISDIR(old.st_mode)) {
      return sys_error("make directory " + to, errno == 0 ? EEXIST : errno);
    }
  }
  if (::chown(to.c_str(), info.st_uid, info.st_gid) != 0) return sys_error("set the owner of " + to);
  if (::chmod(to.c_str(), info.st_mode & 07777) != 0) return sys_error("set the mode of " + to);
  return {};
}

}  // namespace

Status walk_tree(const std::string& path, const Visit& visit) {
  UniqueFd top(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!top) {
    if (errno == ENOTDIR) return {};
    return sys_error("open directory " + path);
  }
  return walk_directory(std::move(top), "", 1, visit);
}

Result<std::string> read_link(int dir_fd, const std::string& name) {
  char buffer[proto::kMaxPathBytes + 1];
  const ssize_t length = ::readlinkat(dir_fd, name.c_str(), buffer, sizeof buffer);
  if (length < 0) return sys_error("read link " + name);
  return std::string(buffer, static_cast<std::size_t>(length));
}

Status copy_contents(int from, int to) {
  // In the kernel where the file systems allow it; sendfile otherwise.
  bool range = true;
  while (true) {
    const ssize_t copied = range ? ::copy_file_range(from, nullptr, to, nullptr, kCopyStep, 0)
                                 : ::sendfile(to, from, nullptr, kCopyStep);
    if (copied == 0) return {};
    if (copied > 0 || errno == EINTR) continue;
    if (!range) return sys_error("copy");
    range = false;
  }
}

Status copy_tree(const std::string& from, const std::string& to, bool recursive, bool no_replace) {
  struct stat info {};
  if (::lstat(from.c_str(), &info) != 0) return sys_error("look at " + from);
  if (!S_ISDIR(info.st_mode)) return copy_one(AT_FDCWD, from, info, to, no_replace);
  if (!recursive) return make_error(Errc::kInvalid, "copy %s: is a directory", from.c_str());
  const std::string inside = from + "/";
  if (to.compare(0, inside.size(), inside) == 0) {
    return make_error(Errc::kInvalid, "copy %s: the target lies inside it", from.c_str());
  }
  MSB_TRY(copy_directory(info, to));
  struct DirectoryTimes {
    std::string path;
    struct stat info;
  };
  std::vector<DirectoryTimes> directories{{to, info}};
  MSB_TRY(walk_tree(from, [&](const WalkEntry& entry) -> Status {
    const std::string target = to + "/" + entry.path;
    if (!S_ISDIR(entry.info.st_mode))
      return copy_one(entry.dir_fd, entry.name, entry.info, target, no_replace);
    directories.push_back({target, entry.info});
    return copy_directory(entry.info, target);
  }));
  // Last, because filling a directory changes its time.
  for (const DirectoryTimes& directory : directories)
    MSB_TRY(keep_times(AT_FDCWD, directory.path, directory.info));
  return {};
}

}  // namespace msb::agent
