// SPDX-License-Identifier: Apache-2.0
// The decoder must give the same frames and the same failure however the stream is cut, never hold more than
// one frame, and its frames must encode back to the bytes they came from.
#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "base/check.h"
#include "proto/frame.h"

namespace {
using msb::Bytes;
using msb::ByteView;

struct Outcome {
  Bytes frames;
  bool failed = false;
};

Outcome decode(ByteView data, std::size_t piece) {
  Outcome outcome;
  msb::proto::FrameDecoder decoder;
  while (!data.empty() && !outcome.failed) {
    ByteView input = data.first(std::min(piece, data.size()));
    data = data.subspan(input.size());
    while (true) {
      const std::size_t before = input.size();
      auto result = decoder.next(input);
      if (!result.ok()) {
        outcome.failed = true;
        break;
      }
      if (!result->has_value()) {
        MSB_CHECK(input.empty());
        break;
      }
      MSB_CHECK((*result)->payload.size() <= msb::proto::max_payload((*result)->raw_type));
      MSB_CHECK(input.size() <= before);
      append_frame(outcome.frames, (*result)->type(), (*result)->payload);
    }
  }
  return outcome;
}
}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::size_t piece = std::size_t{data[0]} + 1;
  const ByteView stream(data + 1, size - 1);
  const Outcome whole = decode(stream, stream.size() + 1);
  const Outcome pieces = decode(stream, piece);
  MSB_CHECK(whole.failed == pieces.failed);
  MSB_CHECK(whole.frames == pieces.frames);
  MSB_CHECK(whole.frames.size() <= stream.size());
  MSB_CHECK(std::equal(whole.frames.begin(), whole.frames.end(), stream.begin()));
  return 0;
}
