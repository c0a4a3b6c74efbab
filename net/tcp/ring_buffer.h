// SPDX-License-Identifier: Apache-2.0
// A byte queue that costs nothing while it is empty and never takes more than a common budget allows.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "base/bytes.h"

namespace msb::net {

// What all stream buffers together may hold. Borrowed by the buffers.
struct BufferBudget {
  std::uint64_t limit = std::uint64_t{64} << 20;
  std::uint64_t used = 0;
  [[nodiscard]] std::uint64_t available() const { return used < limit ? limit - used : 0; }
};

class RingBuffer {
 public:
  static constexpr std::size_t kSmallest = 16 * 1024;
  static constexpr std::size_t kLargest = 1024 * 1024;

  explicit RingBuffer(BufferBudget& budget) : budget_(&budget) {}
  ~RingBuffer() { release(); }
  RingBuffer(const RingBuffer&) = delete;
  RingBuffer& operator=(const RingBuffer&) = delete;

  [[nodiscard]] std::size_t size() const { return size_; }
  [[nodiscard]] bool empty() const { return size_ == 0; }
  // How many bytes it may hold at present: a fair part of what the budget has left, in 64 KiB..1 MiB.
  [[nodiscard]] std::size_t target() const;
  // A contiguous stretch to write into, growing the buffer as the budget allows; empty when it is full.
  [[nodiscard]] MutableBytes reserve();
  // Makes the first `count` bytes of the last reserve() part of the queue.
  void commit(std::size_t count) { size_ += count; }
  // Copies in what fits and returns how much that was.
  [[nodiscard]] std::size_t append(ByteView bytes);
  // `length` bytes from `offset` on, as at most two pieces; both within size().
  [[nodiscard]] std::array<ByteView, 2> view(std::size_t offset, std::size_t length) const;
  // Drops the first `count` <= size() bytes; memory is given back when nothing is left.
  void consume(std::size_t count);

 private:
  [[nodiscard]] bool grow();
  void release();
  BufferBudget* budget_;
  std::unique_ptr<std::uint8_t[]> data_;
  std::size_t capacity_ = 0;  // a power of two, or 0
  std::size_t head_ = 0;
  std::size_t size_ = 0;
};

}  // namespace msb::net
