// SPDX-License-Identifier: Apache-2.0
#include "base/file.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/random.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <climits>
#include <memory>
#include <vector>

#include "base/base64.h"
#include "base/clock.h"

namespace msb {
namespace {

struct DirCloser {
  void operator()(DIR* dir) const { ::closedir(dir); }
};

Status remove_entry(int dir_fd, const std::string& name, int depth) {
  if (::unlinkat(dir_fd, name.c_str(), 0) == 0 || errno == ENOENT) return {};
  if (errno != EISDIR && errno != EPERM) return sys_error("remove " + name);
  // The kernel bounds path depth only through names of ours; a tree deeper than this is not one we made.
  constexpr int kMaxDepth = 256;
  if (depth >= kMaxDepth) return make_error(Errc::kLimit, "remove %s: nested too deeply", name.c_str());
  UniqueFd fd(::openat(dir_fd, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!fd) return sys_error("open " + name);
  const std::unique_ptr<DIR, DirCloser> dir(::fdopendir(fd.get()));
  if (!dir) return sys_error("list " + name);
  const int borrowed = fd.release();  // the DIR closes it
  std::vector<std::string> entries;
  while (const dirent* entry = ::readdir(dir.get())) {
    const std::string_view entry_name(entry->d_name);
    if (entry_name != "." && entry_name != "..") entries.emplace_back(entry_name);
  }
  for (const std::string& entry : entries) MSB_TRY(remove_entry(borrowed, entry, depth + 1));
  if (::unlinkat(dir_fd, name.c_str(), AT_REMOVEDIR) != 0 && errno != ENOENT)
    return sys_error("remove " + name);
  return {};
}

}  // namespace

Result<UniqueFd> open_at(int dir_fd, const std::string& path, int flags, mode_t mode) {
  UniqueFd fd(::openat(dir_fd, path.c_str(), flags | O_CLOEXEC, mode));
  if (!fd) return sys_error("open " + path);
  return fd;
}

Result<UniqueFd> open_file(const std::string& path, int flags, mode_t mode) {
  return open_at(AT_FDCWD, path, flags, mode);
}

Result<std::string> read_all(int fd, std::size_t max_bytes) {
  // Room grows with what comes: most files are far smaller than a large chunk, whose zeroing would be most of
  // the work.
  constexpr std::size_t kFirstRoom = 2048;
  std::string out;
  std::size_t length = 0;
  for (;;) {
    if (length == out.size()) out.resize(std::max(kFirstRoom, 2 * length));
    const ssize_t got = ::read(fd, out.data() + length, out.size() - length);
    if (got < 0) {
      if (errno == EINTR) continue;
      return sys_error("read");
    }
    if (got == 0) {
      out.resize(length);
      return out;
    }
    if (static_cast<std::size_t>(got) > max_bytes - length) {
      return make_error(Errc::kLimit, "read: more than %zu bytes", max_bytes);
    }
    length += static_cast<std::size_t>(got);
  }
}

Result<std::string> read_file(const std::string& path, std::size_t max_bytes) {
  MSB_ASSIGN(const UniqueFd fd, open_file(path, O_RDONLY));
  return read_all(fd.get(), max_bytes).with_context(path);
}

Status write_all(int fd, std::string_view data) {
  while (!data.empty()) {
    const ssize_t put = ::write(fd, data.data(), data.size());
    if (put < 0) {
      if (errno == EINTR) continue;
      return sys_error("write");
    }
    data.remove_prefix(static_cast<std::size_t>(put));
  }
  return {};
}

Status pread_exact(int fd, MutableBytes data, std::uint64_t offset) {
  while (!data.empty()) {
    const ssize_t got = ::pread(fd, data.data(), data.size(), static_cast<off_t>(offset));
    if (got < 0) {
      if (errno == EINTR) continue;
      return sys_error("read");
    }
    if (got == 0) return make_error(Errc::kCorrupt, "read: file ends %zu bytes early", data.size());
    data = data.subspan(static_cast<std::size_t>(got));
    offset += static_cast<std::uint64_t>(got);
  }
  return {};
}

Status pwrite_exact(int fd, ByteView data, std::uint64_t offset) {
  while (!data.empty()) {
    const ssize_t put = ::pwrite(fd, data.data(), data.size(), static_cast<off_t>(offset));
    if (put < 0) {
      if (errno == EINTR) continue;
      return sys_error("write");
    }
    data = data.subspan(static_cast<std::size_t>(put));
    offset += static_cast<std::uint64_t>(put);
  }
  return {};
}

Status write_file_atomic(int dir_fd, const std::string& name, std::string_view data, mode_t mode,
                         Durability durability) {
  MSB_CHECK(name.find('/') == std::string::npos);
  std::array<std::uint8_t, 8> random;
  if (::getrandom(random.data(), random.size(), 0) != static_cast<ssize_t>(random.size())) {
    return sys_error("get random bytes");
  }
  const std::string temporary = "." + name + "." + hex_encode(random) + ".tmp";
  MSB_ASSIGN(UniqueFd fd, open_at(dir_fd, temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, mode));
  Status status = write_all(fd.get(), data);
  if (status.ok() && durability == Durability::kSynced && ::fsync(fd.get()) != 0) status = sys_error("sync");
  if (status.ok() && ::renameat(dir_fd, temporary.c_str(), dir_fd, name.c_str()) != 0)
    status = sys_error("rename");
  if (!status.ok()) {
    ::unlinkat(dir_fd, temporary.c_str(), 0);
    return std::move(status).with_context("write " + name);
  }
  if (durability == Durability::kSynced) {
    // A descriptor opened with O_PATH or AT_FDCWD cannot be synced itself.
    const UniqueFd dir(::openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!dir || ::fsync(dir.get()) != 0) return sys_error("sync directory of " + name);
  }
  return {};
}

Status make_directories(const std::string& path, mode_t mode) {
  for (std::size_t slash = path.find('/', 1);; slash = path.find('/', slash + 1)) {
    const std::string part = path.substr(0, slash);
    if (!part.empty() && ::mkdir(part.c_str(), mode) != 0 && errno != EEXIST) {
      // An existing directory above may refuse writing (EACCES, EROFS) and still be there.
      struct stat info {};
      const int error = errno;
      if (::stat(part.c_str(), &info) != 0 || !S_ISDIR(info.st_mode))
        return sys_error("make directory " + part, error);
    }
    if (slash == std::string::npos) break;
  }
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) return sys_error("make directory " + path);
  if (!S_ISDIR(info.st_mode)) return sys_error("make directory " + path, ENOTDIR);
  return {};
}

Status remove_tree(int dir_fd, const std::string& name) { return remove_entry(dir_fd, name, 0); }

Result<std::string> hide_tree(int dir_fd, const std::string& name) {
  std::string hidden = ".rm-" + name + "-" + std::to_string(wall_clock_ns());
  if (::renameat(dir_fd, name.c_str(), dir_fd, hidden.c_str()) != 0) return sys_error("rename " + name);
  return hidden;
}

Result<std::string> executable_path() {
  std::array<char, PATH_MAX> buffer;
  const ssize_t length = ::readlink("/proc/self/exe", buffer.data(), buffer.size());
  if (length < 0) return sys_error("read /proc/self/exe");
  return std::string(buffer.data(), static_cast<std::size_t>(length));
}

std::string parent_path(std::string_view path) {
  const std::size_t slash = path.rfind('/');
  if (slash == std::string_view::npos) return ".";
  return slash == 0 ? "/" : std::string(path.substr(0, slash));
}

}  // namespace msb
