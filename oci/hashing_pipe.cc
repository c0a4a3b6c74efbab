// SPDX-License-Identifier: Apache-2.0
#include "oci/hashing_pipe.h"

namespace msb::oci {

HashingPipe::HashingPipe(ByteStream& input)
    : input_(input), buffers_(kBuffers), lengths_(kBuffers), thread_([this] { run(); }) {}

HashingPipe::~HashingPipe() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void HashingPipe::run() {
  Sha256Stream hash;
  for (std::size_t index = 0;; ++index) {
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&] { return stopping_ || index - taken_ < kBuffers; });
      if (stopping_) return;
    }
    Bytes& buffer = buffers_[index % kBuffers];
    buffer.resize(kBufferSize);
    // Full buffers: fewer hand-overs, and tar blocks that do not straddle two of them.
    std::size_t have = 0;
    std::optional<Error> error;
    while (have < kBufferSize) {
      auto n = input_.read(MutableBytes(buffer).subspan(have));
      if (!n) {
        error = std::move(n).error();
        break;
      }
      if (*n == 0) break;
      have += *n;
    }
    hash.update(ByteView(buffer).first(have));
    const bool last = have < kBufferSize;
    if (last && !error) hex_ = hash.finish_hex();
    {
      const std::lock_guard lock(mutex_);
      lengths_[index % kBuffers] = have;
      ++filled_;
      ended_ = last;
      error_ = std::move(error);
    }
    changed_.notify_all();
    if (last) return;
  }
}

Result<ByteView> HashingPipe::read() {
  std::unique_lock lock(mutex_);
  if (holding_) {
    holding_ = false;
    ++taken_;
    changed_.notify_all();
  }
  changed_.wait(lock, [&] { return taken_ < filled_ || ended_; });
  if (taken_ == filled_) return ByteView{};
  // The stream failed while this last buffer was being filled: what it holds is of no use.
  if (error_ && taken_ + 1 == filled_) return *error_;
  const std::size_t slot = taken_ % kBuffers;
  holding_ = true;
  total_ += lengths_[slot];
  return ByteView(buffers_[slot]).first(lengths_[slot]);
}

}  // namespace msb::oci
