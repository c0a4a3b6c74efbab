// SPDX-License-Identifier: Apache-2.0
// The frame: the unit of every msb protocol (guest agent, control sockets).
//
//   offset 0  u32 LE  payload length, at most 1 MiB (256 KiB for frames that carry JSON)
//   offset 4  u8      type
//   offset 5  u8      flags, 0 in this version
//   offset 6  u16 LE  reserved, 0
//   offset 8  payload: JSON text for control frames, raw bytes for data frames
//
// Versioning. A receiver refuses nonzero flags or reserved bytes: they are how a later version could change
// the frame itself, which needs a new HELLO version. An unknown type is passed up; what to do with it is for
// the layer above (the agent protocol refuses it).
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "base/bytes.h"
#include "base/result.h"
#include "base/wire.h"

namespace msb::proto {

enum class FrameType : std::uint8_t {
  kHello = 1,          // JSON; first frame each way
  kRequest = 2,        // JSON
  kReply = 3,          // JSON
  kError = 4,          // JSON
  kStdin = 5,          // raw; host to guest
  kStdout = 6,         // raw; guest to host (also everything from a pty)
  kStderr = 7,         // raw; guest to host
  kStdinEof = 8,       // empty
  kExit = 9,           // JSON; last frame of an exec or attach connection
  kSignal = 10,        // JSON
  kResize = 11,        // JSON
  kData = 12,          // raw; file contents
  kDataEof = 13,       // empty
  kEvent = 14,         // JSON
  kLog = 15,           // binary: see LogRecord in proto/agent.h
  kStarted = 16,       // JSON
  kDetach = 17,        // empty
  kReady = 18,         // JSON
  kShutdown = 19,      // JSON
  kShutdownDone = 20,  // empty
  kClock = 21,         // JSON
  kPing = 22,          // empty
  kPong = 23,          // empty
  kWindow = 24,        // reserved: the transport's own flow control is enough so far
  kEntry = 25,         // JSON; one entry of a tree transfer, followed by its DATA frames
};

inline constexpr std::size_t kFrameHeaderBytes = 8;
inline constexpr std::size_t kMaxFramePayload = std::size_t{1} << 20;
inline constexpr std::size_t kMaxJsonPayload = std::size_t{256} << 10;

struct FrameHeader {
  Le32 length;
  std::uint8_t type = 0;
  std::uint8_t flags = 0;
  Le16 reserved;
};
static_assert(sizeof(FrameHeader) == kFrameHeaderBytes && WireStruct<FrameHeader>);

// Largest payload a frame of this type may have. Unknown types count as control frames.
[[nodiscard]] std::size_t max_payload(std::uint8_t type);

// The header of a frame with `length` payload bytes. `length` must not exceed max_payload (checked).
[[nodiscard]] FrameHeader make_header(FrameType type, std::size_t length);
// Appends a whole frame to `out`. The payload must not exceed max_payload (checked).
void append_frame(Bytes& out, FrameType type, ByteView payload);
inline void append_frame(Bytes& out, FrameType type, std::string_view json) {
  append_frame(out, type, as_bytes(json));
}
inline void append_frame(Bytes& out, FrameType type) { append_frame(out, type, ByteView{}); }

struct Frame {
  std::uint8_t raw_type = 0;
  ByteView payload;  // borrowed: see FrameDecoder::next
  [[nodiscard]] FrameType type() const { return static_cast<FrameType>(raw_type); }
};

// Takes frames out of a byte stream that arrives in pieces of any size. Holds at most one frame (1 MiB + 8).
class FrameDecoder {
 public:
  // Consumes from the front of `input`. Returns a frame, or nullopt when `input` is used up before the frame
  // in progress is complete. Call again while it returns frames. The payload points into `input` or into the
  // decoder: it is valid until the next call, and no longer than `input`'s bytes.
  // Errors: Errc::kProtocol for a header no version of this protocol allows; the decoder then stays failed.
  [[nodiscard]] Result<std::optional<Frame>> next(ByteView& input);

  // True when the stream may end here: no frame is half read.
  [[nodiscard]] bool at_boundary() const { return held_.empty() && !failed_; }

 private:
  [[nodiscard]] Status check_header(const FrameHeader& header);

  Bytes held_;             // the frame in progress, header included; empty at a boundary
  bool complete_ = false;  // held_ was handed out and is dropped at the next call
  bool failed_ = false;
};

}  // namespace msb::proto
