// SPDX-License-Identifier: Apache-2.0
#include "proto/frame.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"

namespace msb::proto {

std::size_t max_payload(std::uint8_t type) {
  switch (static_cast<FrameType>(type)) {
    case FrameType::kStdin:
    case FrameType::kStdout:
    case FrameType::kStderr:
    case FrameType::kData:
    case FrameType::kLog:
      return kMaxFramePayload;
    case FrameType::kStdinEof:
    case FrameType::kDataEof:
    case FrameType::kDetach:
    case FrameType::kShutdownDone:
    case FrameType::kPing:
    case FrameType::kPong:
      return 0;
    default:
      return kMaxJsonPayload;
  }
}

FrameHeader make_header(FrameType type, std::size_t length) {
  const auto raw = static_cast<std::uint8_t>(type);
  MSB_CHECK(length <= max_payload(raw));
  FrameHeader header;
  header.length = static_cast<std::uint32_t>(length);
  header.type = raw;
  return header;
}

void append_frame(Bytes& out, FrameType type, ByteView payload) {
  const FrameHeader header = make_header(type, payload.size());
  const auto* raw = reinterpret_cast<const std::uint8_t*>(&header);
  out.insert(out.end(), raw, raw + sizeof header);
  out.insert(out.end(), payload.begin(), payload.end());
}

Status FrameDecoder::check_header(const FrameHeader& header) {
  if (header.flags != 0 || header.reserved.get() != 0) {
    failed_ = true;
    return make_error(Errc::kProtocol, "read frame: flags %u and reserved %u must be 0",
                      unsigned{header.flags}, unsigned{header.reserved.get()});
  }
  const std::size_t limit = max_payload(header.type);
  if (header.length.get() > limit) {
    failed_ = true;
    return make_error(Errc::kProtocol, "read frame: %u bytes in a frame of type %u, at most %zu allowed",
                      header.length.get(), unsigned{header.type}, limit);
  }
  return {};
}

Result<std::optional<Frame>> FrameDecoder::next(ByteView& input) {
  if (failed_) return make_error(Errc::kProtocol, "read frame: the stream has failed before");
  if (complete_) {
    held_.clear();
    complete_ = false;
    // A rare large frame must not pin its buffer for the life of a connection.
    if (held_.capacity() > kMaxJsonPayload) Bytes().swap(held_);
  }
  FrameHeader header;
  if (held_.empty()) {
    if (input.size() < kFrameHeaderBytes) {
      held_.assign(input.begin(), input.end());
      input = {};
      return std::optional<Frame>();
    }
    std::memcpy(&header, input.data(), sizeof header);
    MSB_TRY(check_header(header));
    const std::size_t length = header.length.get();
    if (length <= input.size() - kFrameHeaderBytes) {  // whole frame at hand: no copy
      const Frame frame{header.type, input.subspan(kFrameHeaderBytes, length)};
      input = input.subspan(kFrameHeaderBytes + length);
      return std::optional<Frame>(frame);
    }
  }
  if (held_.size() < kFrameHeaderBytes) {
    const std::size_t take = std::min(kFrameHeaderBytes - held_.size(), input.size());
    held_.insert(held_.end(), input.begin(), input.begin() + static_cast<std::ptrdiff_t>(take));
    input = input.subspan(take);
    if (held_.size() < kFrameHeaderBytes) return std::optional<Frame>();
  }
  std::memcpy(&header, held_.data(), sizeof header);
  MSB_TRY(check_header(header));
  const std::size_t total = kFrameHeaderBytes + header.length.get();
  const std::size_t take = std::min(total - held_.size(), input.size());
  held_.insert(held_.end(), input.begin(), input.begin() + static_cast<std::ptrdiff_t>(take));
  input = input.subspan(take);
  if (held_.size() < total) return std::optional<Frame>();
  complete_ = true;
  return std::optional<Frame>(Frame{header.type, ByteView(held_).subspan(kFrameHeaderBytes)});
}

}  // namespace msb::proto
