// SPDX-License-Identifier: Apache-2.0
#include "oci/store.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>

#include <array>
#include <memory>

#include "base/clock.h"
#include "base/file.h"
#include "base/sha256.h"

namespace msb::oci {
namespace {

constexpr std::array kDirectories = {"refs",  "manifests", "metadata", "layers", "disks",
                                     "blobs", "partial",   "tmp",      "locks"};
constexpr int kTempAttempts = 100;

Status flock_retry(int fd, int operation, const char* what) {
  for (;;) {
    if (::flock(fd, operation) == 0) return {};
    if (errno == EINTR) continue;
    if (errno == EWOULDBLOCK) return make_error(Errc::kBusy, "%s: another process is using it", what);
    return sys_error(what);
  }
}

Result<UniqueFd> open_directory(int base, const std::string& path) {
  return open_at(base, path, O_RDONLY | O_DIRECTORY);
}

}  // namespace

TempFile::~TempFile() {
  if (fd_.valid() && dir_.valid()) ::unlinkat(dir_.get(), name_.c_str(), 0);
}

Result<Store> Store::open(const std::string& home) {
  for (const char* name : kDirectories) MSB_TRY(make_directories(home + "/images/" + name));
  MSB_ASSIGN(UniqueFd home_fd, open_directory(AT_FDCWD, home));
  MSB_ASSIGN(UniqueFd images_fd, open_directory(home_fd.get(), "images"));
  return Store(home, std::move(home_fd), std::move(images_fd));
}

Result<UniqueFd> Store::lock(Access access, bool wait) const {
  MSB_ASSIGN(UniqueFd fd, open_at(images_fd_.get(), "lock", O_RDWR | O_CREAT));
  const int mode = access == Access::kAdd ? LOCK_SH : LOCK_EX;
  MSB_TRY(flock_retry(fd.get(), wait ? mode : mode | LOCK_NB, "lock the image store"));
  return fd;
}

Result<UniqueFd> Store::lock_name(const std::string& name) const {
  // The collector removes lock files, but only under the exclusive store lock, so under the shared one that
  // every caller holds the name keeps meaning the same file.
  MSB_ASSIGN(UniqueFd fd, open_at(images_fd_.get(), "locks/" + name, O_RDWR | O_CREAT));
  MSB_TRY(flock_retry(fd.get(), LOCK_EX, "lock a part of the image store"));
  return fd;
}

Result<TempFile> Store::make_temp() const {
  MSB_ASSIGN(UniqueFd dir, open_directory(images_fd_.get(), "tmp"));
  for (int attempt = 0; attempt < kTempAttempts; ++attempt) {
    std::array<std::uint8_t, 12> random{};
    if (::getrandom(random.data(), random.size(), 0) != static_cast<ssize_t>(random.size()))
      return sys_error("get random bytes");
    std::string name = to_hex(random);
    UniqueFd fd(::openat(dir.get(), name.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    if (!fd) {
      if (errno == EEXIST) continue;
      return sys_error("create a file in " + home_ + "/images/tmp");
    }
    // A sweeper may have taken the new file for garbage before the lock was on it.
    struct stat st {};
    if (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0 || ::fstat(fd.get(), &st) != 0 || st.st_nlink == 0)
      continue;
    return TempFile(std::move(dir), std::move(fd), std::move(name));
  }
  return make_error(Errc::kInternal, "create a file in %s/images/tmp: no free name", home_.c_str());
}

Status Store::publish(TempFile file, const std::string& path) const {
  if (::fdatasync(file.fd()) != 0) return sys_error("sync " + path + " to the disk");
  if (::renameat(file.dir_.get(), file.name_.c_str(), images_fd_.get(), path.c_str()) != 0)
    return sys_error("publish " + path);
  file.fd_.reset();  // nothing left to remove
  MSB_ASSIGN(const UniqueFd dir, open_directory(images_fd_.get(), parent_path(path)));
  if (::fsync(dir.get()) != 0) return sys_error("sync the directory of " + path);
  return {};
}

Status Store::put(const std::string& directory, const std::string& name, std::string_view content) const {
  // By way of tmp/, where what a killed writer leaves is known to be garbage.
  MSB_ASSIGN(TempFile file, make_temp());
  MSB_TRY(write_all(file.fd(), content));
  return publish(std::move(file), directory + "/" + name);
}

Result<std::string> Store::get(const std::string& path, std::size_t max_bytes) const {
  MSB_ASSIGN(const UniqueFd fd, open_at(images_fd_.get(), path, O_RDONLY));
  return read_all(fd.get(), max_bytes).with_context("read " + path);
}

bool Store::has(const std::string& path) const {
  return ::faccessat(images_fd_.get(), path.c_str(), F_OK, 0) == 0;
}

std::optional<Store::Usage> Store::usage(const std::string& path) const {
  struct stat st {};
  if (::fstatat(images_fd_.get(), path.c_str(), &st, AT_SYMLINK_NOFOLLOW) != 0) return std::nullopt;
  return Usage{static_cast<std::uint64_t>(st.st_size), static_cast<std::uint64_t>(st.st_blocks) * 512,
               st.st_mtim.tv_sec};
}

Result<std::vector<std::string>> Store::list(const std::string& directory) const {
  MSB_ASSIGN(UniqueFd fd, open_directory(images_fd_.get(), directory));
  const std::unique_ptr<DIR, int (*)(DIR*)> dir(::fdopendir(fd.get()), ::closedir);
  if (!dir) return sys_error("list " + directory);
  (void)fd.release();
  std::vector<std::string> names;
  while (const dirent* entry = ::readdir(dir.get())) {
    const std::string_view name = entry->d_name;
    if (name != "." && name != "..") names.emplace_back(name);
  }
  return names;
}

Status Store::remove(const std::string& path) const {
  if (::unlinkat(images_fd_.get(), path.c_str(), 0) != 0 && errno != ENOENT)
    return sys_error("remove " + path);
  return {};
}

void Store::sweep_temp() const {
  // A file that somebody has locked is somebody's.
  const auto remove_unlocked = [this](const std::string& path) {
    const UniqueFd fd(::openat(images_fd_.get(), path.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW));
    if (fd && ::flock(fd.get(), LOCK_EX | LOCK_NB) == 0) ::unlinkat(images_fd_.get(), path.c_str(), 0);
  };
  if (const auto names = list("tmp")) {
    for (const std::string& name : *names) remove_unlocked("tmp/" + name);
  }
  if (const auto names = list("partial")) {
    constexpr std::int64_t kSeconds = std::int64_t{kPartialDays} * 86'400;
    const std::int64_t oldest = wall_clock_ns() / 1'000'000'000 - kSeconds;
    for (const std::string& name : *names) {
      const auto found = usage("partial/" + name);
      if (found && found->mtime_s < oldest) remove_unlocked("partial/" + name);
    }
  }
}

UniqueFd Store::open_partial(const std::string& digest_hex) const {
  UniqueFd fd(::openat(images_fd_.get(), partial_path(digest_hex).c_str(),
                       O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  struct stat st {};
  // Whoever finished with it may have removed it between the two calls: then it is of no use any more.
  if (!fd || ::flock(fd.get(), LOCK_EX | LOCK_NB) != 0 || ::fstat(fd.get(), &st) != 0 || st.st_nlink == 0)
    return {};
  return fd;
}

std::string layer_path(const std::string& diff_id_hex) { return "layers/" + diff_id_hex + ".erofs"; }
std::string split_path(const std::string& diff_id_hex) { return "layers/" + diff_id_hex + ".split"; }
std::string disk_path(const std::string& id_hex) { return "disks/" + id_hex + ".img"; }
std::string partial_path(const std::string& digest_hex) { return "partial/" + digest_hex; }

}  // namespace msb::oci
