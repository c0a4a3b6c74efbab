// SPDX-License-Identifier: Apache-2.0
// The last bytes a detachable session wrote, for whoever attaches later.
#pragma once

#include <cstdint>
#include <deque>

#include "base/bytes.h"
#include "proto/frame.h"

namespace msb::agent {

class OutputHistory {
 public:
  static constexpr std::size_t kMaxBytes = std::size_t{1} << 20;

  struct Chunk {
    proto::FrameType stream = proto::FrameType::kStdout;
    std::uint64_t start = 0;  // position of its first byte in all output of the session
    Bytes data;
  };

  // Appends; the oldest chunks go once more than kMaxBytes are held.
  void append(proto::FrameType stream, ByteView data);
  // Position behind the last byte ever appended.
  [[nodiscard]] std::uint64_t end() const { return end_; }
  // Position of the oldest byte held (end() when none is).
  [[nodiscard]] std::uint64_t begin() const { return chunks_.empty() ? end_ : chunks_.front().start; }
  // Calls visit(stream, bytes) for everything from position `from` on, in order.
  template <typename Visit>
  void replay(std::uint64_t from, Visit visit) const {
    for (const Chunk& chunk : chunks_) {
      if (chunk.start + chunk.data.size() <= from) continue;
      const std::size_t skip = from > chunk.start ? static_cast<std::size_t>(from - chunk.start) : 0;
      visit(chunk.stream, ByteView(chunk.data).subspan(skip));
    }
  }

 private:
  std::deque<Chunk> chunks_;
  std::size_t held_ = 0;
  std::uint64_t end_ = 0;
};

}  // namespace msb::agent
