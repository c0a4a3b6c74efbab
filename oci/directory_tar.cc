// SPDX-License-Identifier: Apache-2.0
#include "oci/directory_tar.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <memory>

#include "base/file.h"
#include "base/log.h"
#include "oci/tar_writer.h"

namespace msb::oci {
namespace {

// More ranges than this, and the rest of the file is stored with its holes as zeros.
constexpr std::size_t kMaxRanges = 1U << 16;
// linux/limits.h: XATTR_LIST_MAX, XATTR_SIZE_MAX
constexpr std::size_t kMaxAttributes = 65536;

Error changed(const std::string& path) {
  return make_error(Errc::kBusy,
                    "\"%s\" changed while it was read; load a copy or a snapshot that stays as it is",
                    quote_for_log(path.empty() ? "." : path).c_str());
}
// errno, of something that was there a moment ago.
Error failed(const char* what, const std::string& path) {
  const int error = errno;
  if (error == ENOENT || error == ELOOP || error == ENOTDIR) return changed(path);
  return sys_error(what + (" \"" + quote_for_log(path) + "\""), error);
}

bool same_time(const timespec& one, const timespec& two) {
  return one.tv_sec == two.tv_sec && one.tv_nsec == two.tv_nsec;
}

Status check_unchanged(int fd, const struct stat& seen, const std::string& path) {
  struct stat now {};
  if (::fstat(fd, &now) != 0) return failed("stat", path);
  if (now.st_size != seen.st_size || !same_time(now.st_mtim, seen.st_mtim) ||
      !same_time(now.st_ctim, seen.st_ctim))
    return changed(path);
  return {};
}

// `list` and `get` are listxattr(2) and getxattr(2) of one file, without its name.
template <typename List, typename Get>
Result<std::vector<Xattr>> read_xattrs(const std::string& path, List list, Get get) {
  std::string names(kMaxAttributes, '\0');
  const ssize_t length = list(names.data(), names.size());
  if (length < 0) {
    if (errno == ENOTSUP) return std::vector<Xattr>{};
    return failed("list the attributes of", path);
  }
  names.resize(static_cast<std::size_t>(length));
  std::vector<Xattr> out;
  std::string value;
  // Each name ends in a zero byte.
  for (std::size_t at = 0, end = 0; (end = names.find('\0', at)) != std::string::npos; at = end + 1) {
    const std::string name = names.substr(at, end - at);
    // Only CAP_SYS_ADMIN reads these, which no reader of a directory keeps; some file systems list them
    // anyway.
    if (name.starts_with("trusted.")) continue;
    value.resize(kMaxAttributes);
    const ssize_t size = get(name.c_str(), value.data(), value.size());
    if (size < 0) {
      if (errno == ENODATA) return changed(path);
      return failed("read an attribute of", path);
    }
    out.push_back({name, value.substr(0, static_cast<std::size_t>(size))});
  }
  std::sort(out.begin(), out.end(), [](const Xattr& a, const Xattr& b) { return a.name < b.name; });
  return out;
}

Result<std::vector<Xattr>> xattrs_of(int fd, const std::string& path) {
  return read_xattrs(
      path, [fd](char* out, std::size_t size) { return ::flistxattr(fd, out, size); },
      [fd](const char* name, char* out, std::size_t size) { return ::fgetxattr(fd, name, out, size); });
}

// Of what is not opened: a link, a device, a pipe. No call takes a directory's descriptor and a name (until
// Linux 6.13).
Result<std::vector<Xattr>> xattrs_of(int dir_fd, const std::string& name, const std::string& path) {
  const std::string there = "/proc/self/fd/" + std::to_string(dir_fd) + "/" + name;
  return read_xattrs(
      path, [&there](char* out, std::size_t size) { return ::llistxattr(there.c_str(), out, size); },
      [&there](const char* attribute, char* out, std::size_t size) {
        return ::lgetxattr(there.c_str(), attribute, out, size);
      });
}

TarEntry entry_of(const struct stat& st, std::string path) {
  using Kind = TarEntry::Kind;
  TarEntry entry;
  entry.path = std::move(path);
  entry.mode = st.st_mode & 07777;
  entry.uid = st.st_uid;
  entry.gid = st.st_gid;
  entry.mtime_s = st.st_mtim.tv_sec;
  entry.mtime_ns = static_cast<std::uint32_t>(st.st_mtim.tv_nsec);
  switch (st.st_mode & S_IFMT) {
    case S_IFDIR:
      entry.kind = Kind::kDirectory;
      break;
    case S_IFLNK:
      entry.kind = Kind::kSymlink;
      break;
    case S_IFIFO:
      entry.kind = Kind::kFifo;
      break;
    case S_IFCHR:
    case S_IFBLK:
      entry.kind = S_ISCHR(st.st_mode) ? Kind::kCharDevice : Kind::kBlockDevice;
      entry.major = major(st.st_rdev);
      entry.minor = minor(st.st_rdev);
      break;
    default:
      entry.kind = Kind::kFile;
      entry.size = static_cast<std::uint64_t>(st.st_size);
  }
  return entry;
}

// Where a file has data; all of it where the file system does not tell.
Result<std::vector<SparseRange>> stored_ranges(int fd, const struct stat& st, const std::string& path) {
  const auto size = static_cast<std::uint64_t>(st.st_size);
  std::vector<SparseRange> ranges;
  if (size == 0) return ranges;
  const std::vector<SparseRange> whole = {{0, size}};
  if (static_cast<std::uint64_t>(st.st_blocks) >= (size + 511) / 512) return whole;
  for (std::uint64_t at = 0; at < size;) {
    const off_t data = ::lseek(fd, static_cast<off_t>(at), SEEK_DATA);
    if (data < 0 && errno == ENXIO) break;
    if (data < 0 && errno == EINVAL) return whole;
    const off_t hole = data < 0 ? -1 : ::lseek(fd, data, SEEK_HOLE);
    if (hole < 0) return failed("look for holes in", path);
    const auto start = static_cast<std::uint64_t>(data);
    const std::uint64_t end = std::min(static_cast<std::uint64_t>(hole), size);
    if (start < at || start >= end) break;  // it shrinks: reading it to its end tells
    if (ranges.size() == kMaxRanges) {
      ranges.back().length = size - ranges.back().offset;
      break;
    }
    ranges.push_back({start, end - start});
    at = end;
  }
  return ranges;
}

// The names in a directory, sorted by their bytes.
Result<std::vector<std::string>> names_in(int fd, const std::string& path, std::uint64_t most) {
  MSB_ASSIGN(UniqueFd copy, open_at(fd, ".", O_RDONLY | O_DIRECTORY));
  const std::unique_ptr<DIR, int (*)(DIR*)> dir(::fdopendir(copy.get()), ::closedir);
  if (!dir) return failed("list", path);
  (void)copy.release();
  std::vector<std::string> names;
  for (;;) {
    errno = 0;
    const dirent* entry = ::readdir(dir.get());
    if (entry == nullptr) break;
    std::string name(&entry->d_name[0]);
    if (name == "." || name == "..") continue;
    if (names.size() >= most)
      return make_error(Errc::kLimit, "\"%s\" holds more than %llu names", quote_for_log(path).c_str(),
                        static_cast<unsigned long long>(most));
    names.push_back(std::move(name));
  }
  if (errno != 0) return failed("list", path);
  std::sort(names.begin(), names.end());
  return names;
}

// Opens what `seen` was, and fills in what it is now.
Result<UniqueFd> open_seen(int dir_fd, const std::string& name, struct stat& seen, const std::string& path) {
  const int kind = S_ISDIR(seen.st_mode) ? O_DIRECTORY : O_NONBLOCK;
  UniqueFd fd(::openat(dir_fd, name.c_str(), O_RDONLY | O_NOFOLLOW | O_NOCTTY | O_CLOEXEC | kind));
  if (!fd) return failed("open", path);
  struct stat now {};
  if (::fstat(fd.get(), &now) != 0) return failed("stat", path);
  if (now.st_dev != seen.st_dev || now.st_ino != seen.st_ino ||
      (now.st_mode & S_IFMT) != (seen.st_mode & S_IFMT))
    return changed(path);
  seen = now;
  return fd;
}

}  // namespace

Status DirectoryTar::put(const TarEntry& entry) {
  MSB_ASSIGN(const std::string headers, tar_headers(entry));
  pending_ += headers;
  return {};
}

Status DirectoryTar::begin() {
  MSB_ASSIGN(UniqueFd fd, open_at(dir_fd_, ".", O_RDONLY | O_DIRECTORY));
  struct stat seen {};
  if (::fstat(fd.get(), &seen) != 0) return failed("stat", ".");
  MSB_TRY(add_folder(std::move(fd), seen, ""));
  if (folders_.back().names.empty()) return make_error(Errc::kProtocol, "the directory is empty");
  return {};
}

Status DirectoryTar::add_folder(UniqueFd fd, const struct stat& seen, std::string path) {
  TarEntry entry = entry_of(seen, path.empty() ? "./" : path);
  MSB_ASSIGN(entry.xattrs, xattrs_of(fd.get(), path));
  MSB_TRY(put(entry));
  Folder folder;
  MSB_ASSIGN(folder.names, names_in(fd.get(), path, limits_.max_entries));
  folder.fd = std::move(fd);
  folder.seen = seen;
  folder.path = std::move(path);
  folders_.push_back(std::move(folder));
  return {};
}

Status DirectoryTar::add_file(UniqueFd fd, const struct stat& seen, TarEntry entry) {
  entry.size = static_cast<std::uint64_t>(seen.st_size);
  MSB_ASSIGN(entry.xattrs, xattrs_of(fd.get(), entry.path));
  MSB_ASSIGN(entry.ranges, stored_ranges(fd.get(), seen, entry.path));
  File file;
  for (const SparseRange& range : entry.ranges) file.stored += range.length;
  entry.sparse = file.stored != entry.size;
  MSB_TRY(put(entry));
  file.fd = std::move(fd);
  file.seen = seen;
  file.path = std::move(entry.path);
  file.ranges = std::move(entry.ranges);
  file_ = std::move(file);
  return {};
}

Status DirectoryTar::add(const std::string& name) {
  const int dir = folders_.back().fd.get();
  const std::string path = folders_.back().path + name;
  struct stat st {};
  if (::fstatat(dir, name.c_str(), &st, AT_SYMLINK_NOFOLLOW) != 0) return failed("stat", path);
  if (name.starts_with(".wh."))
    return make_error(Errc::kProtocol,
                      "\"%s\": in a layer, names that begin with .wh. remove others; rename it",
                      quote_for_log(path).c_str());
  if (S_ISSOCK(st.st_mode)) {
    ++sockets_;
    return {};
  }
  if (S_ISDIR(st.st_mode)) {
    MSB_ASSIGN(UniqueFd fd, open_seen(dir, name, st, path));
    return add_folder(std::move(fd), st, path + "/");
  }
  TarEntry entry = entry_of(st, path);
  if (st.st_nlink > 1) {
    const auto [at, first] = links_.try_emplace({st.st_dev, st.st_ino}, Linked{path, st.st_nlink - 1});
    if (!first) {
      entry.kind = TarEntry::Kind::kHardLink;
      entry.size = 0;
      entry.link = at->second.path;
      if (--at->second.left == 0) links_.erase(at);
      return put(entry);
    }
  }
  if (S_ISREG(st.st_mode)) {
    MSB_ASSIGN(UniqueFd fd, open_seen(dir, name, st, path));
    return add_file(std::move(fd), st, std::move(entry));
  }
  if (S_ISLNK(st.st_mode)) {
    std::array<char, kMaxPathBytes> target{};
    const ssize_t length = ::readlinkat(dir, name.c_str(), target.data(), target.size());
    if (length < 0) return failed("read the link", path);
    entry.link.assign(target.data(), static_cast<std::size_t>(length));
  }
  MSB_ASSIGN(entry.xattrs, xattrs_of(dir, name, path));
  return put(entry);
}

Status DirectoryTar::next() {
  if (!std::exchange(begun_, true)) return begin();
  if (folders_.empty()) {
    ended_ = true;
    pending_.append(kTarEnd, '\0');
    return {};
  }
  Folder& folder = folders_.back();
  if (folder.next < folder.names.size()) {
    const std::string name = std::move(folder.names[folder.next++]);
    return add(name);
  }
  MSB_TRY(check_unchanged(folder.fd.get(), folder.seen, folder.path));
  folders_.pop_back();
  return {};
}

// A piece of the file's data; 0 when there is no more, with its padding pending.
Result<std::size_t> DirectoryTar::read_file(MutableBytes out) {
  File& file = *file_;
  if (file.range == file.ranges.size()) {
    MSB_TRY(check_unchanged(file.fd.get(), file.seen, file.path));
    pending_.append(tar_padding(file.stored), '\0');
    file_.reset();
    return std::size_t{0};
  }
  const SparseRange& range = file.ranges[file.range];
  const auto want = static_cast<std::size_t>(std::min<std::uint64_t>(out.size(), range.length - file.done));
  const ssize_t got = ::pread(file.fd.get(), out.data(), want, static_cast<off_t>(range.offset + file.done));
  if (got < 0) return failed("read", file.path);
  if (got == 0) return changed(file.path);
  file.done += static_cast<std::size_t>(got);
  if (file.done == range.length) {
    ++file.range;
    file.done = 0;
  }
  return static_cast<std::size_t>(got);
}

Result<std::size_t> DirectoryTar::read(MutableBytes out) {
  for (;;) {
    if (sent_ < pending_.size()) {
      const std::size_t take = std::min(out.size(), pending_.size() - sent_);
      std::memcpy(out.data(), pending_.data() + sent_, take);
      sent_ += take;
      return take;
    }
    pending_.clear();
    sent_ = 0;
    if (file_) {
      MSB_ASSIGN(const std::size_t got, read_file(out));
      if (got > 0) return got;
    } else if (ended_) {
      return std::size_t{0};
    } else {
      MSB_TRY(next());
    }
  }
}

}  // namespace msb::oci
