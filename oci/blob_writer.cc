// SPDX-License-Identifier: Apache-2.0
#include "oci/blob_writer.h"

#include <algorithm>

#include "base/file.h"
#include "oci/erofs_format.h"

namespace msb::oci {
namespace {
constexpr std::size_t kBuffer = 512 * 1024;
constexpr std::uint64_t kHoleFrom = 256 * 1024;  // shorter runs of zeros are written
}  // namespace

BlobWriter::BlobWriter(int fd, std::uint64_t max_blocks)
    : fd_(fd), max_bytes_(max_blocks * erofs::kBlockSize), position_(erofs::kBlockSize) {
  buffer_.reserve(kBuffer);
}

Status BlobWriter::check_room(std::uint64_t more) const {
  if (position_ > max_bytes_ || more > max_bytes_ - position_) {
    return make_error(Errc::kLimit, "the files of the layer take more than %llu bytes",
                      static_cast<unsigned long long>(max_bytes_));
  }
  return {};
}

Result<std::uint32_t> BlobWriter::start_block() {
  MSB_CHECK(position_ % erofs::kBlockSize == 0);
  MSB_TRY(check_room(0));
  return static_cast<std::uint32_t>(position_ / erofs::kBlockSize);
}

Status BlobWriter::append(ByteView bytes) {
  MSB_TRY(check_room(bytes.size()));
  while (!bytes.empty()) {
    const std::size_t take = std::min(bytes.size(), kBuffer - buffer_.size());
    buffer_.insert(buffer_.end(), bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(take));
    position_ += take;
    bytes = bytes.subspan(take);
    if (buffer_.size() == kBuffer) MSB_TRY(flush());
  }
  return {};
}

Status BlobWriter::append_zeros(std::uint64_t count) {
  MSB_TRY(check_room(count));
  if (count >= kHoleFrom) {
    MSB_TRY(flush());
    position_ += count;
    return {};
  }
  static constexpr std::array<std::uint8_t, erofs::kBlockSize> kZeros{};
  while (count > 0) {
    const std::size_t take = static_cast<std::size_t>(std::min<std::uint64_t>(count, kZeros.size()));
    MSB_TRY(append(ByteView(kZeros).first(take)));
    count -= take;
  }
  return {};
}

Status BlobWriter::align() {
  return append_zeros((erofs::kBlockSize - position_ % erofs::kBlockSize) % erofs::kBlockSize);
}

Status BlobWriter::flush() {
  if (buffer_.empty()) return {};
  MSB_TRY(pwrite_exact(fd_, buffer_, position_ - buffer_.size()));
  buffer_.clear();
  return {};
}

}  // namespace msb::oci
