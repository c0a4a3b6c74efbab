// SPDX-License-Identifier: Apache-2.0
// ByteSource: a stream read forward in pieces that the source chooses; stages of the unpacker are chained by
// it.
#pragma once

#include <algorithm>

#include "base/bytes.h"
#include "base/result.h"

namespace msb::oci {

class ByteSource {
 public:
  virtual ~ByteSource() = default;
  // The next piece, valid until the next call; empty at the end of the stream (and again after it).
  [[nodiscard]] virtual Result<ByteView> read() = 0;
};

// Bytes in memory, given out in pieces of at most `piece` bytes. For tests and small inputs; borrowed.
class MemorySource final : public ByteSource {
 public:
  explicit MemorySource(ByteView data, std::size_t piece = SIZE_MAX) : data_(data), piece_(piece) {}
  [[nodiscard]] Result<ByteView> read() override {
    const ByteView out = data_.first(std::min(piece_, data_.size()));
    data_ = data_.subspan(out.size());
    return out;
  }

 private:
  ByteView data_;
  std::size_t piece_;
};

}  // namespace msb::oci
