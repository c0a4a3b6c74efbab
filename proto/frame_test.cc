// SPDX-License-Identifier: Apache-2.0
#include "proto/frame.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace msb::proto {
namespace {

// Everything the decoder yields for `stream` when it arrives `piece` bytes at a time.
std::vector<std::pair<FrameType, std::string>> decode(ByteView stream, std::size_t piece) {
  std::vector<std::pair<FrameType, std::string>> frames;
  FrameDecoder decoder;
  while (!stream.empty()) {
    ByteView input = stream.first(std::min(piece, stream.size()));
    stream = stream.subspan(input.size());
    while (true) {
      auto next = decoder.next(input);
      EXPECT_TRUE(next.ok());
      if (!next.ok() || !next->has_value()) break;
      frames.emplace_back((*next)->type(), std::string(as_text((*next)->payload)));
    }
  }
  EXPECT_TRUE(decoder.at_boundary());
  return frames;
}

TEST(FrameTest, Encode_HeaderIsLengthTypeFlagsReserved) {
  Bytes out;
  append_frame(out, FrameType::kStdout, "abc");
  EXPECT_EQ(out, (Bytes{3, 0, 0, 0, 6, 0, 0, 0, 'a', 'b', 'c'}));
}

TEST(FrameDecoderTest, AnyCut_YieldsTheSameFrames) {
  Bytes stream;
  append_frame(stream, FrameType::kRequest, R"({"op":"ping"})");
  append_frame(stream, FrameType::kStdinEof);
  append_frame(stream, FrameType::kData, std::string(5000, 'x'));
  append_frame(stream, FrameType::kDataEof);
  const std::vector<std::pair<FrameType, std::string>> expected{{FrameType::kRequest, R"({"op":"ping"})"},
                                                                {FrameType::kStdinEof, ""},
                                                                {FrameType::kData, std::string(5000, 'x')},
                                                                {FrameType::kDataEof, ""}};
  for (const std::size_t piece : {1U, 2U, 7U, 8U, 9U, 100U, 5007U, 100000U})
    EXPECT_EQ(decode(stream, piece), expected);
}

TEST(FrameDecoderTest, LargestPayload_IsAccepted) {
  Bytes stream;
  const std::string data(kMaxFramePayload, 'd');
  append_frame(stream, FrameType::kData, data);
  const auto frames = decode(stream, 65536);
  ASSERT_EQ(frames.size(), 1U);
  EXPECT_EQ(frames[0].second, data);
}

void expect_refused(const Bytes& stream) {
  FrameDecoder decoder;
  ByteView input = stream;
  auto next = decoder.next(input);
  ASSERT_FALSE(next.ok());
  EXPECT_EQ(next.error().code, Errc::kProtocol);
  Bytes good;
  append_frame(good, FrameType::kPing);
  ByteView more = good;
  EXPECT_FALSE(decoder.next(more).ok()) << "a failed stream must stay failed";
}

TEST(FrameDecoderTest, TooLongPayload_IsRefusedFromTheHeaderAlone) {
  expect_refused({0x01, 0x00, 0x10, 0x00, 12, 0, 0, 0});  // DATA of 1 MiB + 1
  expect_refused({0x01, 0x00, 0x04, 0x00, 2, 0, 0, 0});   // REQUEST of 256 KiB + 1
  expect_refused({0xff, 0xff, 0xff, 0xff, 12, 0, 0, 0});
  expect_refused({1, 0, 0, 0, 8, 0, 0, 0, 'x'});  // STDIN_EOF carries nothing
}

TEST(FrameDecoderTest, FlagsOrReserved_AreRefused) {
  expect_refused({0, 0, 0, 0, 22, 1, 0, 0});
  expect_refused({0, 0, 0, 0, 22, 0, 1, 0});
  expect_refused({0, 0, 0, 0, 22, 0, 0, 1});
}

TEST(FrameDecoderTest, UnknownType_IsPassedUp) {
  const Bytes stream{2, 0, 0, 0, 200, 0, 0, 0, 'h', 'i'};
  FrameDecoder decoder;
  ByteView input = stream;
  auto next = decoder.next(input);
  ASSERT_TRUE(next.ok() && next->has_value());
  EXPECT_EQ((*next)->raw_type, 200);
}

TEST(FrameDecoderTest, CutStream_IsNotAtABoundary) {
  FrameDecoder decoder;
  const Bytes stream{2, 0, 0, 0, 6, 0, 0, 0, 'h'};
  ByteView input = stream;
  auto next = decoder.next(input);
  ASSERT_TRUE(next.ok());
  EXPECT_FALSE(next->has_value());
  EXPECT_TRUE(input.empty());
  EXPECT_FALSE(decoder.at_boundary());
}

}  // namespace
}  // namespace msb::proto
