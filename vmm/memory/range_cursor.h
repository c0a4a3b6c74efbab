// SPDX-License-Identifier: Apache-2.0
// Cursors over lists of HostRange: how devices read what the guest wrote and write what it will read, in
// order and within bounds, without ever holding a pointer into guest RAM themselves.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <vector>

#include "base/bytes.h"
#include "vmm/memory/guest_memory.h"

namespace msb::vmm {

// The only two copies between guest RAM and ours in the program. Lengths of both sides must be equal.
// The fence keeps the compiler from going back to guest RAM for a value that it has copied already.
inline void copy_from_guest(MutableBytes out, const HostRange& from) {
  if (!out.empty()) std::memcpy(out.data(), from.iov_base, out.size());
  asm volatile("" ::: "memory");
}
inline void copy_to_guest(const HostRange& to, ByteView bytes) {
  if (!bytes.empty()) std::memcpy(to.iov_base, bytes.data(), bytes.size());
  asm volatile("" ::: "memory");
}

// Position within a list of ranges, which it borrows. Base of the reader and the writer.
class RangeCursor {
 public:
  explicit RangeCursor(std::span<const HostRange> ranges) : ranges_(ranges) {
    for (const HostRange& range : ranges) remaining_ += range.iov_len;
  }
  [[nodiscard]] std::uint64_t remaining() const { return remaining_; }

  // False, and no move, when fewer than `length` bytes remain.
  [[nodiscard]] bool skip(std::uint64_t length) {
    return visit(length, [](const HostRange&) {});
  }
  // Appends the pieces of the next `length` bytes to `out` and moves past them; false, and neither, when
  // fewer remain.
  [[nodiscard]] bool take(std::uint64_t length, std::vector<HostRange>& out) {
    return visit(length, [&out](const HostRange& piece) { out.push_back(piece); });
  }

 protected:
  // Calls act(piece) for each piece of the next `length` bytes and moves past them.
  template <typename Act>
  bool visit(std::uint64_t length, Act act) {
    if (length > remaining_) return false;
    remaining_ -= length;
    while (length > 0) {  // each step ends a range or the length
      const HostRange& range = ranges_.front();
      const std::uint64_t step = std::min<std::uint64_t>(length, range.iov_len - offset_);
      if (step > 0) act(HostRange{static_cast<std::uint8_t*>(range.iov_base) + offset_, step});
      length -= step;
      offset_ += step;
      if (offset_ == range.iov_len) {
        ranges_ = ranges_.subspan(1);
        offset_ = 0;
      }
    }
    return true;
  }

 private:
  std::span<const HostRange> ranges_;
  std::uint64_t offset_ = 0;  // within ranges_.front()
  std::uint64_t remaining_ = 0;
};

// Over what the guest wrote. Each byte is read at most once.
class RangeReader : public RangeCursor {
 public:
  using RangeCursor::RangeCursor;
  // All or nothing.
  [[nodiscard]] bool read(MutableBytes out) {
    return visit(out.size(), [&out](const HostRange& piece) {
      copy_from_guest(out.first(piece.iov_len), piece);
      out = out.subspan(piece.iov_len);
    });
  }
  template <WireStruct T>
  [[nodiscard]] std::optional<T> read() {
    T value;
    if (!read(MutableBytes(reinterpret_cast<std::uint8_t*>(&value), sizeof value))) return std::nullopt;
    return value;
  }
};

// Over what the guest will read.
class RangeWriter : public RangeCursor {
 public:
  using RangeCursor::RangeCursor;
  // All or nothing.
  [[nodiscard]] bool write(ByteView bytes) {
    return visit(bytes.size(), [&bytes](const HostRange& piece) {
      copy_to_guest(piece, bytes.first(piece.iov_len));
      bytes = bytes.subspan(piece.iov_len);
    });
  }
  template <WireStruct T>
  [[nodiscard]] bool write(const T& value) {
    return write(ByteView(reinterpret_cast<const std::uint8_t*>(&value), sizeof value));
  }
};

}  // namespace msb::vmm
