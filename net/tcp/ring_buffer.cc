// SPDX-License-Identifier: Apache-2.0
#include "net/tcp/ring_buffer.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"

namespace msb::net {

std::size_t RingBuffer::target() const {
  const std::uint64_t share = budget_->available() / 8;
  const auto wanted = static_cast<std::size_t>(std::min<std::uint64_t>(share, kLargest));
  return std::max<std::size_t>({wanted, kSmallest * 4, capacity_});
}

bool RingBuffer::grow() {
  const std::size_t next = capacity_ == 0 ? kSmallest : capacity_ * 4;
  if (next > target() && capacity_ != 0) return false;
  if (next > kLargest || next - capacity_ > budget_->available()) return false;
  std::unique_ptr<std::uint8_t[]> data(new std::uint8_t[next]);
  const auto pieces = view(0, size_);
  if (!pieces[0].empty()) std::memcpy(data.get(), pieces[0].data(), pieces[0].size());
  if (!pieces[1].empty()) std::memcpy(data.get() + pieces[0].size(), pieces[1].data(), pieces[1].size());
  budget_->used += next - capacity_;
  data_ = std::move(data);
  capacity_ = next;
  head_ = 0;
  return true;
}

void RingBuffer::release() {
  budget_->used -= capacity_;
  data_.reset();
  capacity_ = 0;
  head_ = 0;
  size_ = 0;
}

MutableBytes RingBuffer::reserve() {
  if (size_ == capacity_ && !grow()) return {};
  const std::size_t tail = (head_ + size_) & (capacity_ - 1);
  const std::size_t free = capacity_ - size_;
  return {data_.get() + tail, std::min(free, capacity_ - tail)};
}

std::size_t RingBuffer::append(ByteView bytes) {
  std::size_t done = 0;
  while (done < bytes.size()) {
    const MutableBytes room = reserve();
    if (room.empty()) break;
    const std::size_t count = std::min(room.size(), bytes.size() - done);
    std::memcpy(room.data(), bytes.data() + done, count);
    commit(count);
    done += count;
  }
  return done;
}

std::array<ByteView, 2> RingBuffer::view(std::size_t offset, std::size_t length) const {
  MSB_CHECK(offset <= size_ && length <= size_ - offset);
  if (length == 0) return {};
  const std::size_t start = (head_ + offset) & (capacity_ - 1);
  const std::size_t first = std::min(length, capacity_ - start);
  return {ByteView(data_.get() + start, first), ByteView(data_.get(), length - first)};
}

void RingBuffer::consume(std::size_t count) {
  MSB_CHECK(count <= size_);
  size_ -= count;
  if (size_ == 0) {
    head_ = 0;
    release();
    return;
  }
  head_ = (head_ + count) & (capacity_ - 1);
}

}  // namespace msb::net
