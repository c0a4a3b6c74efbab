// SPDX-License-Identifier: Apache-2.0
// ByteStream: bytes read forward into the caller's buffer; files, pipes and decompressors look alike through
// it.
#pragma once

#include <cstdint>

#include "base/bytes.h"
#include "base/result.h"
#include "oci/byte_source.h"

namespace msb::oci {

class ByteStream {
 public:
  virtual ~ByteStream() = default;
  // Reads at least one byte and at most out.size() (which is not 0); 0 only at the end.
  [[nodiscard]] virtual Result<std::size_t> read(MutableBytes out) = 0;
};

// A file, pipe or socket from its current position on; borrowed. Counts what it has read.
class FdStream final : public ByteStream {
 public:
  explicit FdStream(int fd) : fd_(fd) {}
  [[nodiscard]] Result<std::size_t> read(MutableBytes out) override;
  [[nodiscard]] std::uint64_t total() const { return total_; }

 private:
  int fd_;
  std::uint64_t total_ = 0;
};

// A source's pieces copied out; borrowed.
class SourceStream final : public ByteStream {
 public:
  explicit SourceStream(ByteSource& source) : source_(source) {}
  [[nodiscard]] Result<std::size_t> read(MutableBytes out) override;

 private:
  ByteSource& source_;
  ByteView piece_;
};

// A stream given out in pieces of one owned buffer.
class StreamSource final : public ByteSource {
 public:
  static constexpr std::size_t kBuffer = 128 * 1024;
  explicit StreamSource(ByteStream& stream) : stream_(stream), buffer_(kBuffer) {}
  [[nodiscard]] Result<ByteView> read() override;

 private:
  ByteStream& stream_;
  Bytes buffer_;
};

}  // namespace msb::oci
