// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/block_backend.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>

#include "vmm/memory/range_cursor.h"

namespace msb::devices {
namespace {

using vmm::HostRange;
constexpr std::uint64_t kSector = 512;

// Calls transfer(ranges, count, offset) until all of `ranges` is done. A transfer of 0 bytes is `on_zero`.
template <typename Transfer>
Status transfer_all(std::span<const HostRange> ranges, std::uint64_t offset, const char* what, int on_zero,
                    Transfer transfer) {
  std::array<HostRange, 64> window;
  std::uint64_t skip = 0;    // bytes of ranges.front() done
  while (!ranges.empty()) {  // each round moves forward or fails
    const std::size_t count = std::min(ranges.size(), window.size());
    std::copy_n(ranges.begin(), count, window.begin());
    window[0].iov_base = static_cast<char*>(window[0].iov_base) + skip;
    window[0].iov_len -= skip;
    const ssize_t done = transfer(window.data(), static_cast<int>(count), static_cast<off_t>(offset));
    if (done < 0) {
      if (errno == EINTR) continue;
      return sys_error(what);
    }
    if (done == 0) return sys_error(what, on_zero);
    offset += static_cast<std::uint64_t>(done);
    skip += static_cast<std::uint64_t>(done);
    while (!ranges.empty() && skip >= ranges.front().iov_len) {
      skip -= ranges.front().iov_len;
      ranges = ranges.subspan(1);
    }
  }
  return {};
}

Status read_all(int fd, std::span<const HostRange> to, std::uint64_t offset) {
  // End of file inside the disk: somebody truncated it.
  return transfer_all(to, offset, "read disk", EIO, [fd](const HostRange* window, int count, off_t at) {
    return ::preadv(fd, window, count, at);
  });
}

Result<std::uint64_t> file_size(int fd) {
  struct stat info {};
  if (::fstat(fd, &info) != 0) return sys_error("inspect disk file");
  if (S_ISREG(info.st_mode)) return static_cast<std::uint64_t>(info.st_size);
  if (S_ISBLK(info.st_mode)) {
    std::uint64_t bytes = 0;
    if (::ioctl(fd, BLKGETSIZE64, &bytes) != 0) return sys_error("size of block device");
    return bytes;
  }
  return make_error(Errc::kInvalid, "a disk must be a regular file or a block device");
}

class ExtentBackend final : public BlockBackend {
 public:
  struct Piece {
    std::uint64_t start;  // on the disk
    std::uint64_t length;
    std::uint64_t offset;  // in the file
    std::shared_ptr<UniqueFd> file;
  };
  ExtentBackend(std::vector<Piece> pieces, std::uint64_t size) : pieces_(std::move(pieces)), size_(size) {}

  std::uint64_t size() const override { return size_; }
  bool read_only() const override { return true; }

  Status read(std::span<const HostRange> to, std::uint64_t offset) override {
    auto piece = std::upper_bound(pieces_.begin(), pieces_.end(), offset,
                                  [](std::uint64_t at, const Piece& p) { return at < p.start; });
    --piece;  // the first starts at 0
    vmm::RangeReader cursor(to);
    if (cursor.remaining() <= piece->length - (offset - piece->start)) {
      return read_all(piece->file->get(), to, piece->offset + (offset - piece->start));
    }
    std::vector<HostRange> part;
    while (cursor.remaining() > 0 && piece != pieces_.end()) {  // one round per extent touched
      const std::uint64_t inside = offset - piece->start;
      const std::uint64_t step = std::min(cursor.remaining(), piece->length - inside);
      part.clear();
      if (!cursor.take(step, part)) break;
      MSB_TRY(read_all(piece->file->get(), part, piece->offset + inside));
      offset += step;
      ++piece;
    }
    if (cursor.remaining() > 0) return make_error(Errc::kInvalid, "read past the end of the disk");
    return {};
  }
  Status write(std::span<const HostRange>, std::uint64_t, Durability) override { return refused(); }
  Status flush() override { return {}; }
  Status discard(std::uint64_t, std::uint64_t) override { return refused(); }
  Status write_zeroes(std::uint64_t, std::uint64_t, Allocation) override { return refused(); }

 private:
  static Error refused() { return make_error(Errc::kPermission, "the disk is read-only"); }
  const std::vector<Piece> pieces_;  // by start, without gaps
  const std::uint64_t size_;
};

class RawBackend final : public BlockBackend {
 public:
  RawBackend(UniqueFd file, std::uint64_t size, DiskAccess access)
      : file_(std::move(file)), size_(size), access_(access) {}

  std::uint64_t size() const override { return size_; }
  bool read_only() const override { return access_ == DiskAccess::kReadOnly; }
  Status read(std::span<const HostRange> to, std::uint64_t offset) override {
    return read_all(file_.get(), to, offset);
  }
  Status write(std::span<const HostRange> from, std::uint64_t offset, Durability durability) override {
    const int flags = durability == Durability::kSynced ? RWF_DSYNC : 0;
    return transfer_all(from, offset, "write disk", ENOSPC,
                        [this, flags](const HostRange* window, int count, off_t at) {
                          return ::pwritev2(file_.get(), window, count, at, flags);
                        });
  }
  Status flush() override {
    if (::fdatasync(file_.get()) != 0) return sys_error("sync disk");
    return {};
  }
  Status discard(std::uint64_t offset, std::uint64_t length) override {
    const Status punched = allocate(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length);
    return unsupported(punched) ? Status() : punched;
  }
  Status write_zeroes(std::uint64_t offset, std::uint64_t length, Allocation allocation) override {
    constexpr int kPunch = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    constexpr int kZero = FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE;
    Status status = allocate(allocation == Allocation::kMayFree ? kPunch : kZero, offset, length);
    if (!unsupported(status)) return status;
    status = allocate(allocation == Allocation::kMayFree ? kZero : kPunch, offset, length);
    if (!unsupported(status)) return status;
    return store_zeroes(offset, length);
  }

 private:
  Status allocate(int mode, std::uint64_t offset, std::uint64_t length) {
    while (::fallocate(file_.get(), mode, static_cast<off_t>(offset), static_cast<off_t>(length)) != 0) {
      if (errno != EINTR) return sys_error("deallocate disk range");
    }
    return {};
  }
  static bool unsupported(const Status& status) {
    return !status.ok() && (status.error().sys_errno == EOPNOTSUPP || status.error().sys_errno == ENOSYS);
  }
  Status store_zeroes(std::uint64_t offset, std::uint64_t length) {
    static constexpr std::array<std::uint8_t, 65536> kZeroes{};
    while (length > 0) {
      const std::uint64_t step = std::min<std::uint64_t>(length, kZeroes.size());
      const ssize_t done = ::pwrite(file_.get(), kZeroes.data(), step, static_cast<off_t>(offset));
      if (done < 0 && errno == EINTR) continue;
      if (done <= 0) return sys_error("write zeroes to disk", done == 0 ? ENOSPC : errno);
      offset += static_cast<std::uint64_t>(done);
      length -= static_cast<std::uint64_t>(done);
    }
    return {};
  }

  UniqueFd file_;
  const std::uint64_t size_;
  const DiskAccess access_;
};

}  // namespace

Result<std::unique_ptr<BlockBackend>> make_extent_backend(std::vector<FileExtent> extents) {
  std::vector<ExtentBackend::Piece> pieces;
  std::uint64_t start = 0;
  for (FileExtent& extent : extents) {
    const std::size_t index = pieces.size();
    MSB_ASSIGN(const std::uint64_t size, file_size(extent.file->get()));
    if (extent.length == 0 || extent.length % kSector != 0 || extent.offset % kSector != 0) {
      return make_error(Errc::kInvalid, "disk extent %zu is empty or not aligned to 512 bytes", index);
    }
    if (extent.offset > size || extent.length > size - extent.offset) {
      return make_error(Errc::kInvalid, "disk extent %zu reaches past the end of its file", index);
    }
    pieces.push_back({start, extent.length, extent.offset, std::move(extent.file)});
    if (__builtin_add_overflow(start, extent.length, &start)) {
      return make_error(Errc::kInvalid, "disk extents add up to more than a disk can hold");
    }
  }
  if (pieces.empty()) return make_error(Errc::kInvalid, "a disk needs at least one extent");
  return std::unique_ptr<BlockBackend>(std::make_unique<ExtentBackend>(std::move(pieces), start));
}

Result<std::unique_ptr<BlockBackend>> make_raw_backend(UniqueFd file, DiskAccess access) {
  MSB_ASSIGN(const std::uint64_t size, file_size(file.get()));
  if (size == 0 || size % kSector != 0) {
    return make_error(Errc::kInvalid, "disk of %llu bytes is not a positive multiple of 512",
                      static_cast<unsigned long long>(size));
  }
  return std::unique_ptr<BlockBackend>(std::make_unique<RawBackend>(std::move(file), size, access));
}

}  // namespace msb::devices
