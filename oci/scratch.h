// SPDX-License-Identifier: Apache-2.0
// Scratch: room for tables that grow with an image. The first kPlainBytes are plain memory, so that small
// images touch no file; what comes after is mapped from a file, whose pages the kernel writes out and takes
// back when memory is short. So the largest image needs little memory that nothing else could have.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

#include "base/result.h"

namespace msb::oci {

// A stretch of mapped memory, zero at first, on a page boundary; unmapped when destroyed.
class ScratchBlock {
 public:
  ScratchBlock() = default;
  ScratchBlock(void* data, std::size_t bytes) : data_(data), bytes_(bytes) {}
  ScratchBlock(ScratchBlock&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), bytes_(other.bytes_) {}
  ScratchBlock& operator=(ScratchBlock&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~ScratchBlock();
  [[nodiscard]] void* data() const { return data_; }

 private:
  void* data_ = nullptr;
  std::size_t bytes_ = 0;
};

class Scratch {
 public:
  static constexpr std::size_t kPlainBytes = std::size_t{8} << 20;

  // `fd` (borrowed) is an empty file of its own; -1: everything is plain memory.
  explicit Scratch(int fd) : fd_(fd) {}

  // `bytes` is a multiple of the page size. The file's blocks are taken here: a full disk is kNoSpace now,
  // and no fault later. What a destroyed block took of the file is not used again.
  [[nodiscard]] Result<ScratchBlock> allocate(std::size_t bytes);

 private:
  int fd_;
  std::size_t plain_ = 0;  // bytes given out so far
  std::uint64_t in_file_ = 0;
};

}  // namespace msb::oci
