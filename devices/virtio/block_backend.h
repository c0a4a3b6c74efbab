// SPDX-License-Identifier: Apache-2.0
// BlockBackend: where a virtio block device's bytes are. All calls block on the host's disk, may come from
// several threads at once, and are given ranges that lie inside size().
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "vmm/memory/guest_memory.h"

namespace msb::devices {

class BlockBackend {
 public:
  enum class Durability : std::uint8_t { kCached, kSynced };

  virtual ~BlockBackend() = default;
  // Bytes; a multiple of 512; never changes.
  [[nodiscard]] virtual std::uint64_t size() const = 0;
  [[nodiscard]] virtual bool read_only() const = 0;
  // Fills all of `to` from `offset` on, or fails.
  [[nodiscard]] virtual Status read(std::span<const vmm::HostRange> to, std::uint64_t offset) = 0;
  // Stores all of `from`, or fails; with kSynced it is on stable storage when the call returns.
  // Errc::kNoSpace: the host's disk is full; the caller may try the same write again.
  [[nodiscard]] virtual Status write(std::span<const vmm::HostRange> from, std::uint64_t offset,
                                     Durability durability) = 0;
  // All completed writes are on stable storage when it returns.
  [[nodiscard]] virtual Status flush() = 0;
  // The contents of the range no longer matter. Advice: success without effect is allowed.
  [[nodiscard]] virtual Status discard(std::uint64_t offset, std::uint64_t length) = 0;
  enum class Allocation : std::uint8_t { kKeep, kMayFree };
  [[nodiscard]] virtual Status write_zeroes(std::uint64_t offset, std::uint64_t length,
                                            Allocation allocation) = 0;
};

// Several read-only pieces of files that appear as one disk, in order. The descriptors may repeat.
struct FileExtent {
  std::shared_ptr<UniqueFd> file;  // shared by the extents of one file
  std::uint64_t offset = 0;        // bytes; multiple of 512
  std::uint64_t length = 0;        // bytes; positive multiple of 512
};
// Errors: kInvalid for an extent list that is empty, misaligned, overflowing, or reaching past the end of a
// file.
[[nodiscard]] Result<std::unique_ptr<BlockBackend>> make_extent_backend(std::vector<FileExtent> extents);

enum class DiskAccess : std::uint8_t { kReadOnly, kReadWrite };
// A whole regular file or block device of raw sectors. Never guesses a format. Errors: kInvalid when it is
// neither or its size is not a positive multiple of 512.
[[nodiscard]] Result<std::unique_ptr<BlockBackend>> make_raw_backend(UniqueFd file, DiskAccess access);

}  // namespace msb::devices
