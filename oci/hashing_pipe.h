// SPDX-License-Identifier: Apache-2.0
// HashingPipe: runs a stream (with the decompressor in it) and a SHA-256 over its output on a thread of its
// own, a few buffers ahead of the reader, so that inflating and hashing overlap with parsing and writing.
//
// Theory of operation. A ring of kBuffers buffers. The thread owns the buffer at `filled_`, the reader the
// one at `taken_`; the counters only grow and their difference is the number of full ones. The reader's
// buffer is given back by its next read(). Destruction tells the thread to stop, which it does at the next
// buffer, and joins it.
#pragma once

#include <condition_variable>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "oci/byte_source.h"
#include "oci/byte_stream.h"
#include "oci/digest.h"

namespace msb::oci {

class HashingPipe final : public ByteSource {
 public:
  static constexpr std::size_t kBuffers = 8;
  static constexpr std::size_t kBufferSize = 256 * 1024;

  // `input` is borrowed and used only by the pipe's thread until destruction.
  explicit HashingPipe(ByteStream& input);
  ~HashingPipe() override;
  [[nodiscard]] Result<ByteView> read() override;
  // Of the whole stream; call after read() has returned the empty view.
  [[nodiscard]] const std::string& sha256_hex() const { return hex_; }
  [[nodiscard]] std::uint64_t total_bytes() const { return total_; }

 private:
  void run();
  ByteStream& input_;
  std::vector<Bytes> buffers_;
  std::vector<std::size_t> lengths_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::size_t filled_ = 0;      // guarded by mutex_
  std::size_t taken_ = 0;       // guarded by mutex_
  bool holding_ = false;        // reader's side: buffer taken_ is in use
  bool ended_ = false;          // guarded by mutex_
  bool stopping_ = false;       // guarded by mutex_
  std::optional<Error> error_;  // guarded by mutex_
  std::string hex_;             // written before ended_
  std::uint64_t total_ = 0;     // reader's side
  std::thread thread_;          // last: it uses all of the above
};

}  // namespace msb::oci
