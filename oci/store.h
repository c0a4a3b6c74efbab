// SPDX-License-Identifier: Apache-2.0
// Store: the images of one user, as files below $MSB_HOME/images. No daemon, no database; many processes at
// once.
//
//   refs/<sha256 of canonical reference>.json  which manifest a reference means
//   manifests/<manifest digest>.json           what a sandbox needs: config, extents of the root disk, layers
//   metadata/<sha256 of the layers' ids>.erofs merged trees (merge.h)
//   layers/<diff id>.erofs                     layers (unpack.h)
//   layers/<diff id>.split                     what `save` needs to write their tar again
//   disks/<id>.img                             roots that came as disk images (unpack_disk.h)
//   blobs/<digest>                             manifests and configs as they came
//   partial/<digest>                           the beginnings of layers whose download broke off
//   tmp/, locks/                               work in progress; a file there without a lock is garbage
//   lock                                       shared while something is added, exclusive to collect garbage
//
// Theory of operation. Everything but refs is content-addressed and never changes once it has its name: it is
// written in tmp/, synced, and renamed into place, so a name that exists is complete, whoever is killed when.
// What refers is published after what it refers to. Two processes making the same thing serialise on a lock
// per name; the second finds it done. A crash leaves at most files in tmp/ (removed by the next writer, for
// their locks are gone) and layers that nothing refers to (kept for the next pull, removed by prune).
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"

namespace msb::oci {

// A file being written in the store's tmp/. Removed when destroyed unless published.
class TempFile {
 public:
  TempFile() = default;
  TempFile(UniqueFd dir, UniqueFd fd, std::string name)
      : dir_(std::move(dir)), fd_(std::move(fd)), name_(std::move(name)) {}
  TempFile(TempFile&&) noexcept = default;
  TempFile& operator=(TempFile&&) noexcept = default;
  ~TempFile();
  [[nodiscard]] int fd() const { return fd_.get(); }
  [[nodiscard]] bool valid() const { return fd_.valid(); }

 private:
  friend class Store;
  UniqueFd dir_;  // tmp/
  UniqueFd fd_;   // locked as long as it is open
  std::string name_;
};

class Store {
 public:
  // Opens the store of `home` ($MSB_HOME), making its directories where missing.
  [[nodiscard]] static Result<Store> open(const std::string& home);

  [[nodiscard]] const std::string& home() const { return home_; }
  [[nodiscard]] int home_fd() const { return home_fd_.get(); }
  [[nodiscard]] int images_fd() const { return images_fd_.get(); }

  enum class Access : std::uint8_t { kAdd, kCollect };
  // Shared for adding (waits for a collector), exclusive for collecting (kBusy if anyone is adding and
  // !wait).
  [[nodiscard]] Result<UniqueFd> lock(Access access, bool wait) const;
  // Serialises makers of one content-addressed thing; waits. `name` is made of letters, digits, '.' and '-'.
  [[nodiscard]] Result<UniqueFd> lock_name(const std::string& name) const;

  [[nodiscard]] Result<TempFile> make_temp() const;
  // Syncs `file` and gives it its place `path` below images/; the file is then read-only by convention.
  [[nodiscard]] Status publish(TempFile file, const std::string& path) const;
  // Whole small files, synced and renamed.
  [[nodiscard]] Status put(const std::string& directory, const std::string& name,
                           std::string_view content) const;
  [[nodiscard]] Result<std::string> get(const std::string& path, std::size_t max_bytes) const;
  [[nodiscard]] bool has(const std::string& path) const;
  // Apparent and occupied bytes of a file below images/.
  struct Usage {
    std::uint64_t size = 0;
    std::uint64_t disk = 0;
    std::int64_t mtime_s = 0;
  };
  [[nodiscard]] std::optional<Usage> usage(const std::string& path) const;
  [[nodiscard]] Result<std::vector<std::string>> list(const std::string& directory) const;
  [[nodiscard]] Status remove(const std::string& path) const;

  // Removes what crashed or killed writers left in tmp/, and beginnings in partial/ that nobody took up for
  // kPartialDays.
  void sweep_temp() const;

  static constexpr int kPartialDays = 7;
  // What an earlier pull got of the blob `digest_hex`, to read and to continue; made if it is not there. Not
  // valid if another process is at it or it cannot be made: then the blob comes whole from the registry. Its
  // bytes are as good as unchecked: the digest of the whole blob says whether they are right.
  [[nodiscard]] UniqueFd open_partial(const std::string& digest_hex) const;

 private:
  Store(std::string home, UniqueFd home_fd, UniqueFd images_fd)
      : home_(std::move(home)), home_fd_(std::move(home_fd)), images_fd_(std::move(images_fd)) {}
  std::string home_;
  UniqueFd home_fd_;
  UniqueFd images_fd_;
};

// Names below images/.
[[nodiscard]] std::string layer_path(const std::string& diff_id_hex);
[[nodiscard]] std::string split_path(const std::string& diff_id_hex);
[[nodiscard]] std::string disk_path(const std::string& id_hex);
[[nodiscard]] std::string partial_path(const std::string& digest_hex);

}  // namespace msb::oci
