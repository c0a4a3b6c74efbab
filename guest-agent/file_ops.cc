// SPDX-License-Identifier: Apache-2.0
#include "guest-agent/file_ops.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/sendfile.h>
#include <unistd.h>

#include <array>
#include <cstdio>

#include "base/base64.h"
#include "base/file.h"
#include "guest-agent/tree_walk.h"
#include "guest-agent/user_db.h"

namespace msb::agent {
namespace {

constexpr std::int64_t kNanoseconds = 1'000'000'000;

std::int64_t to_ns(const timespec& time) { return std::int64_t{time.tv_sec} * kNanoseconds + time.tv_nsec; }

timespec to_timespec(const std::optional<std::int64_t>& ns) {
  if (!ns) return {0, UTIME_OMIT};
  std::int64_t seconds = *ns / kNanoseconds;
  std::int64_t rest = *ns % kNanoseconds;
  if (rest < 0) {
    rest += kNanoseconds;
    --seconds;
  }
  return {static_cast<time_t>(seconds), static_cast<long>(rest)};
}

Status check(int result, const char* what, const std::string& path) {
  if (result == 0) return {};
  return sys_error(std::string(what) + " " + path);
}

// A name in the directory of `path` that nothing else uses.
std::string temporary_beside(const std::string& path) {
  std::array<std::uint8_t, 8> random{};
  [[maybe_unused]] const ssize_t got = ::getrandom(random.data(), random.size(), 0);
  const std::string parent = parent_path(path);
  return (parent == "/" ? std::string() : parent) + "/.msb-" + hex_encode(random);
}

Status make_parents(const std::string& path) { return make_directories(parent_path(path), 0755); }

Result<Owner> owner_of(const proto::FileRequest& request) {
  if (request.owner.empty()) return Owner{};
  return resolve_owner(read_passwd(), read_group(), request.owner);
}

Status do_mkdir(const proto::FileRequest& request, const std::string& path) {
  MSB_ASSIGN(const Owner owner, owner_of(request));
  if (request.parents) {
    MSB_TRY(make_parents(path));
    struct stat info {};
    if (::stat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode)) return {};
  }
  MSB_TRY(check(::mkdir(path.c_str(), 0755), "make directory", path));
  if (request.mode) MSB_TRY(check(::chmod(path.c_str(), *request.mode), "set the mode of", path));
  if (!request.owner.empty()) {
    MSB_TRY(check(::lchown(path.c_str(), owner.uid, owner.gid), "set the owner of", path));
  }
  return {};
}

Status remove_recursively(const std::string& path) {
  MSB_ASSIGN(const UniqueFd parent, open_file(parent_path(path), O_RDONLY | O_DIRECTORY));
  return remove_tree(parent.get(), path.substr(path.rfind('/') + 1));
}

Status do_remove(const proto::FileRequest& request, const std::string& path) {
  int result = ::unlink(path.c_str());
  if (result != 0 && (errno == EISDIR || errno == EPERM)) {
    if (request.recursive) return remove_recursively(path);
    result = ::rmdir(path.c_str());
  }
  if (result != 0 && errno == ENOENT && request.missing_ok) return {};
  return check(result, "remove", path);
}

Status do_rename(const proto::FileRequest& request, const std::string& path) {
  const std::string to = absolute(request.to);
  const unsigned flags = request.no_replace ? RENAME_NOREPLACE : 0;
  return check(::renameat2(AT_FDCWD, path.c_str(), AT_FDCWD, to.c_str(), flags), "rename", path);
}

Status do_chmod(const proto::FileRequest& request, const std::string& path) {
  MSB_TRY(check(::chmod(path.c_str(), *request.mode), "set the mode of", path));
  if (!request.recursive) return {};
  return walk_tree(path, [&](const WalkEntry& entry) -> Status {
    if (S_ISLNK(entry.info.st_mode)) return {};
    return check(::fchmodat(entry.dir_fd, entry.name.c_str(), *request.mode, 0), "set the mode of",
                 entry.path);
  });
}

Status do_chown(const proto::FileRequest& request, const std::string& path) {
  MSB_ASSIGN(const Owner owner, owner_of(request));
  const int flags = request.follow ? 0 : AT_SYMLINK_NOFOLLOW;
  MSB_TRY(check(::fchownat(AT_FDCWD, path.c_str(), owner.uid, owner.gid, flags), "set the owner of", path));
  if (!request.recursive) return {};
  return walk_tree(path, [&](const WalkEntry& entry) {
    return check(::fchownat(entry.dir_fd, entry.name.c_str(), owner.uid, owner.gid, AT_SYMLINK_NOFOLLOW),
                 "set the owner of", entry.path);
  });
}

Status do_utime(const proto::FileRequest& request, const std::string& path) {
  const timespec times[2] = {to_timespec(request.atime_ns), to_timespec(request.mtime_ns)};
  const int flags = request.follow ? 0 : AT_SYMLINK_NOFOLLOW;
  return check(::utimensat(AT_FDCWD, path.c_str(), times, flags), "set the times of", path);
}

Result<FileAnswer> do_realpath(const std::string& path) {
  char resolved[PATH_MAX];
  if (::realpath(path.c_str(), resolved) == nullptr) return sys_error("resolve " + path);
  return FileAnswer{std::nullopt, std::string(resolved)};
}

Result<FileAnswer> do_readlink(const std::string& path) {
  MSB_ASSIGN(std::string target, read_link(AT_FDCWD, path));
  return FileAnswer{std::nullopt, std::move(target)};
}

}  // namespace

std::string absolute(const std::string& path) { return path.front() == '/' ? path : "/" + path; }

proto::FileInfo to_file_info(const struct stat& info) {
  proto::FileInfo out;
  out.kind = proto::file_kind_from_mode(info.st_mode);
  out.mode = info.st_mode & 07777;
  out.uid = info.st_uid;
  out.gid = info.st_gid;
  out.size = static_cast<std::uint64_t>(info.st_size);
  out.nlink = info.st_nlink;
  out.inode = info.st_ino;
  out.device = info.st_dev;
  out.rdev = info.st_rdev;
  out.mtime_ns = to_ns(info.st_mtim);
  out.atime_ns = to_ns(info.st_atim);
  out.ctime_ns = to_ns(info.st_ctim);
  return out;
}

Result<proto::FileInfo> describe(int dir_fd, const std::string& name) {
  struct stat info {};
  if (::fstatat(dir_fd, name.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0) return sys_error("look at " + name);
  proto::FileInfo out = to_file_info(info);
  if (out.kind == proto::FileKind::kSymlink) {
    MSB_ASSIGN(out.target, read_link(dir_fd, name));
  }
  return out;
}

Result<FileAnswer> run_file_op(const proto::FileRequest& request) {
  const std::string path = absolute(request.path);
  const auto plain = [](Status status) -> Result<FileAnswer> {
    if (!status.ok()) return std::move(status).error();
    return FileAnswer{};
  };
  switch (request.op) {
    case proto::FileOp::kStat: {
      struct stat info {};
      if (::stat(path.c_str(), &info) != 0) return sys_error("look at " + path);
      return FileAnswer{to_file_info(info), std::nullopt};
    }
    case proto::FileOp::kLstat: {
      MSB_ASSIGN(proto::FileInfo info, describe(AT_FDCWD, path));
      return FileAnswer{std::move(info), std::nullopt};
    }
    case proto::FileOp::kMkdir:
      return plain(do_mkdir(request, path));
    case proto::FileOp::kRemove:
      return plain(do_remove(request, path));
    case proto::FileOp::kRename:
      return plain(do_rename(request, path));
    case proto::FileOp::kCopy:
      return plain(copy_tree(path, absolute(request.to), request.recursive, request.no_replace));
    case proto::FileOp::kChmod:
      return plain(do_chmod(request, path));
    case proto::FileOp::kChown:
      return plain(do_chown(request, path));
    case proto::FileOp::kUtime:
      return plain(do_utime(request, path));
    case proto::FileOp::kTruncate:
      return plain(check(::truncate(path.c_str(), static_cast<off_t>(*request.length)), "truncate", path));
    case proto::FileOp::kSymlink:
      return plain(check(::symlink(request.to.c_str(), path.c_str()), "make link", path));
    case proto::FileOp::kHardlink:
      return plain(check(::link(absolute(request.to).c_str(), path.c_str()), "make link", path));
    case proto::FileOp::kReadlink:
      return do_readlink(path);
    case proto::FileOp::kRealpath:
      return do_realpath(path);
    case proto::FileOp::kReaddir:
    case proto::FileOp::kRead:
    case proto::FileOp::kWrite:
    case proto::FileOp::kWatch:
    case proto::FileOp::kTreeOut:
    case proto::FileOp::kTreeIn:
      break;
  }
  return make_error(Errc::kInternal, "not a simple file operation");
}

Result<FileSink> FileSink::open(const proto::FileRequest& request) {
  FileSink sink;
  sink.path_ = absolute(request.path);
  if (request.parents) MSB_TRY(make_parents(sink.path_));
  MSB_ASSIGN(const Owner owner, owner_of(request));
  const bool whole =
      request.write_mode == proto::WriteMode::kReplace || request.write_mode == proto::WriteMode::kCreateNew;
  std::string open_path = sink.path_;
  int flags = O_WRONLY | O_CREAT | O_NOCTTY;
  mode_t mode = request.mode.value_or(0644);
  std::optional<struct stat> old;
  if (request.write_mode == proto::WriteMode::kReplace) {
    // What a link points to is replaced, not the link; the new file keeps the old one's mode and owner.
    char resolved[PATH_MAX];
    if (::realpath(sink.path_.c_str(), resolved) != nullptr) sink.path_ = resolved;
    struct stat info {};
    if (::stat(sink.path_.c_str(), &info) == 0) {
      if (S_ISDIR(info.st_mode)) return sys_error("write " + sink.path_, EISDIR);
      if (!S_ISREG(info.st_mode)) {
        return make_error(Errc::kInvalid, "write %s: is no regular file; use \"truncate\" or \"append\"",
                          sink.path_.c_str());
      }
      old = info;
      if (!request.mode) mode = info.st_mode & 07777;
    }
  }
  if (whole) {
    struct stat info {};
    if (request.write_mode == proto::WriteMode::kCreateNew && ::lstat(sink.path_.c_str(), &info) == 0) {
      return sys_error("create " + sink.path_, EEXIST);
    }
    sink.no_replace_ = request.write_mode == proto::WriteMode::kCreateNew;
    sink.temporary_ = temporary_beside(sink.path_);
    open_path = sink.temporary_;
    flags |= O_EXCL;
  } else if (request.write_mode == proto::WriteMode::kTruncate) {
    flags |= O_TRUNC;
  } else if (request.write_mode == proto::WriteMode::kAppend) {
    flags |= O_APPEND;
  }
  auto fd = open_file(open_path, flags, whole ? 0600 : mode);
  if (!fd.ok()) {
    sink.temporary_.clear();
    return std::move(fd).error();
  }
  sink.fd_ = std::move(fd).value();
  const int file = sink.fd_.get();
  if (!request.owner.empty()) {
    MSB_TRY(check(::fchown(file, owner.uid, owner.gid), "set the owner of", sink.path_));
  } else if (whole && old) {
    MSB_TRY(check(::fchown(file, old->st_uid, old->st_gid), "keep the owner of", sink.path_));
  }
  // After the owner: chown clears set-user-ID.
  if (whole || request.mode) MSB_TRY(check(::fchmod(file, mode), "set the mode of", sink.path_));
  if (request.offset != 0 && ::lseek(file, static_cast<off_t>(request.offset), SEEK_SET) < 0) {
    return sys_error("seek in " + sink.path_);
  }
  return sink;
}

FileSink::~FileSink() {
  if (fd_ && !temporary_.empty()) ::unlink(temporary_.c_str());
}

Status FileSink::write(ByteView data) { return write_all(fd_.get(), as_text(data)).with_context(path_); }

Result<proto::FileInfo> FileSink::finish() {
  struct stat info {};
  MSB_TRY(check(::fstat(fd_.get(), &info), "look at", path_));
  if (!temporary_.empty()) {
    const unsigned flags = no_replace_ ? RENAME_NOREPLACE : 0;
    MSB_TRY(check(::renameat2(AT_FDCWD, temporary_.c_str(), AT_FDCWD, path_.c_str(), flags), "put in place",
                  path_));
    temporary_.clear();
  }
  fd_.reset();
  return to_file_info(info);
}

}  // namespace msb::agent
