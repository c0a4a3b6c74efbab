// SPDX-License-Identifier: Apache-2.0
#include "oci/disk_source.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>

#include "base/file.h"
#include "oci/qcow2.h"

namespace msb::oci {
namespace {

constexpr std::size_t kPiece = 256U << 10;

// The file is the disk. Its holes are passed over where the file system tells of them.
class RawDisk final : public DiskSource {
 public:
  RawDisk(int fd, std::uint64_t size) : fd_(fd), size_(size) {}
  [[nodiscard]] std::uint64_t size() const override { return size_; }

  [[nodiscard]] Status read(const Sink& sink) override {
    Bytes buffer(kPiece);
    for (std::uint64_t at = 0; at < size_;) {
      MSB_ASSIGN(const std::uint64_t start, seek(at, SEEK_DATA, size_));
      if (start >= size_) return {};
      MSB_ASSIGN(const std::uint64_t end, seek(start, SEEK_HOLE, size_));
      for (at = start; at < end;) {
        const MutableBytes piece =
            MutableBytes(buffer).first(static_cast<std::size_t>(std::min<std::uint64_t>(kPiece, end - at)));
        MSB_TRY(pread_exact(fd_, piece, at));
        MSB_TRY(sink(at, piece));
        at += piece.size();
      }
    }
    return {};
  }

 private:
  [[nodiscard]] Result<std::uint64_t> seek(std::uint64_t from, int whence, std::uint64_t none) const {
    const off_t found = ::lseek(fd_, static_cast<off_t>(from), whence);
    if (found >= 0) return std::clamp(static_cast<std::uint64_t>(found), from, size_);
    if (errno == ENXIO) return none;
    return sys_error("look for holes in a disk image");
  }

  int fd_;
  std::uint64_t size_;
};

}  // namespace

Result<std::unique_ptr<DiskSource>> open_raw_disk(int fd, const Limits& limits) {
  struct stat st {};
  if (::fstat(fd, &st) != 0) return sys_error("stat a disk image");
  if (!S_ISREG(st.st_mode)) return make_error(Errc::kInvalid, "a disk image must be a file");
  const auto size = static_cast<std::uint64_t>(st.st_size);
  if (size > limits.max_image_bytes)
    return make_error(Errc::kLimit, "a disk of more than %llu bytes",
                      static_cast<unsigned long long>(limits.max_image_bytes));
  return std::unique_ptr<DiskSource>(std::make_unique<RawDisk>(fd, size));
}

Result<std::unique_ptr<DiskSource>> open_disk(int fd, const Limits& limits) {
  std::array<std::uint8_t, 4> start{};
  return pread_exact(fd, start, 0).ok() && is_qcow2(start) ? open_qcow2(fd, limits)
                                                           : open_raw_disk(fd, limits);
}

}  // namespace msb::oci
