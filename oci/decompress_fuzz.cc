// SPDX-License-Identifier: Apache-2.0
// Compressed streams: the same bytes and the same outcome however the input is cut, and never more output
// than is asked for.
#include <algorithm>
#include <cstdint>
#include <string>

#include "base/check.h"
#include "oci/decompress.h"

namespace {

constexpr std::size_t kMaxOutput = 1U << 20;

class PieceStream final : public msb::oci::ByteStream {
 public:
  PieceStream(msb::ByteView data, std::size_t piece) : data_(data), piece_(piece) {}
  [[nodiscard]] msb::Result<std::size_t> read(msb::MutableBytes out) override {
    const std::size_t take = std::min({out.size(), data_.size(), piece_});
    std::copy_n(data_.begin(), take, out.begin());
    data_ = data_.subspan(take);
    return take;
  }

 private:
  msb::ByteView data_;
  std::size_t piece_;
};

struct Outcome {
  std::string output;
  bool failed = false;
};

Outcome decompress(msb::ByteView data, std::size_t piece, std::size_t buffer_size) {
  PieceStream input(data, piece);
  msb::oci::Decompressor stream(input);
  msb::Bytes buffer(buffer_size);
  Outcome outcome;
  while (outcome.output.size() < kMaxOutput) {
    const auto n = stream.read(buffer);
    if (!n.ok()) {
      outcome.failed = true;
      return outcome;
    }
    MSB_CHECK(*n <= buffer.size());
    if (*n == 0) return outcome;
    outcome.output += msb::as_text(msb::ByteView(buffer).first(*n));
  }
  return outcome;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const msb::ByteView input(data + 1, size - 1);
  const Outcome whole = decompress(input, SIZE_MAX, 4096);
  const Outcome pieces = decompress(input, std::size_t{data[0]} + 1, 997);
  if (whole.output.size() < kMaxOutput && pieces.output.size() < kMaxOutput) {
    MSB_CHECK(whole.failed == pieces.failed);
    if (!whole.failed) MSB_CHECK(whole.output == pieces.output);
  }
  return 0;
}
