// SPDX-License-Identifier: Apache-2.0
#include "guest-agent/output_history.h"

namespace msb::agent {
namespace {
constexpr std::size_t kChunkBytes = std::size_t{16} << 10;
}  // namespace

void OutputHistory::append(proto::FrameType stream, ByteView data) {
  while (!data.empty()) {
    if (chunks_.empty() || chunks_.back().stream != stream || chunks_.back().data.size() >= kChunkBytes) {
      chunks_.push_back(Chunk{stream, end_, {}});
    }
    Bytes& last = chunks_.back().data;
    const ByteView part = data.first(std::min(data.size(), kChunkBytes - last.size()));
    last.insert(last.end(), part.begin(), part.end());
    held_ += part.size();
    end_ += part.size();
    data = data.subspan(part.size());
  }
  while (held_ > kMaxBytes) {
    held_ -= chunks_.front().data.size();
    chunks_.pop_front();
  }
}

}  // namespace msb::agent
