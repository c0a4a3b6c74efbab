// SPDX-License-Identifier: Apache-2.0
// Streams decompressed by what they begin with, not by what someone says they are: gzip, zstd, or as they
// are.
#pragma once

#include <cstdint>
#include <memory>

#include "base/result.h"
#include "oci/byte_stream.h"

namespace msb::oci {

enum class Compression : std::uint8_t { kNone, kGzip, kZstd };

// What a stream with these first bytes (four are enough) is.
[[nodiscard]] Compression detect_compression(ByteView start);

class Decompressor final : public ByteStream {
 public:
  // `input` is borrowed. Nothing is read before the first read().
  explicit Decompressor(ByteStream& input);
  ~Decompressor() override;
  // Several members or frames in a row are one stream, as gzip and zstd read them. Errors: kProtocol for
  // damage or an early end; those of the input.
  [[nodiscard]] Result<std::size_t> read(MutableBytes out) override;
  // Valid once something was read.
  [[nodiscard]] Compression compression() const { return compression_; }

 private:
  struct State;
  [[nodiscard]] Status start();
  [[nodiscard]] Status fill();
  [[nodiscard]] Result<std::size_t> read_gzip(MutableBytes out);
  [[nodiscard]] Result<std::size_t> read_zstd(MutableBytes out);

  ByteStream& input_;
  Bytes buffer_;
  ByteView pending_;  // of buffer_, not yet consumed
  bool started_ = false;
  bool input_ended_ = false;
  bool between_frames_ = false;  // what was decoded so far is complete
  bool padding_ = false;         // zeros came after a gzip member: nothing else may follow
  Compression compression_ = Compression::kNone;
  std::unique_ptr<State> state_;
};

}  // namespace msb::oci
