// SPDX-License-Identifier: Apache-2.0
// A connection that speaks frames (proto/frame.h): to the guest's agent through the sandbox's vsock socket,
// or to the supervisor role through its control socket. Nothing blocks but wait_*; at most one frame is held
// in each direction beyond what the caller queues.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "base/json.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "proto/agent.h"
#include "proto/frame.h"
#include "supervisor/supervisor.h"

namespace msb::supervisor {

// Waits until poll(2) reports one of `events` (or an error) on `fd`; kTimeout when the deadline passes.
[[nodiscard]] Status wait_for(int fd, short events, Deadline deadline);

class FrameLink {
 public:
  explicit FrameLink(UniqueFd socket) : socket_(std::move(socket)) {}

  [[nodiscard]] int fd() const { return socket_.get(); }
  // poll(2) bits this link waits for: always POLLIN, POLLOUT while bytes are queued.
  [[nodiscard]] short wanted_events() const;

  // Appends a frame to what is to be sent; flush() sends.
  void queue(proto::FrameType type, std::string_view payload);
  void queue(proto::FrameType type) { queue(type, {}); }
  [[nodiscard]] std::size_t queued_bytes() const { return out_.size() - sent_; }
  // Sends what the socket takes now. kUnavailable when the peer is gone.
  [[nodiscard]] Status flush();
  // Sends all that is queued.
  [[nodiscard]] Status flush_all(Deadline deadline);

  // The next frame if there is one; its payload is valid until the next call. kUnavailable at end of stream.
  [[nodiscard]] Result<std::optional<proto::Frame>> next();
  [[nodiscard]] Result<proto::Frame> wait_frame(Deadline deadline);

  // Reads one line that precedes the frames (without its newline), at most 256 bytes.
  [[nodiscard]] Result<std::string> wait_line(Deadline deadline);

 private:
  // Reads more from the socket; false: nothing there now.
  [[nodiscard]] Result<bool> fill();
  UniqueFd socket_;
  proto::FrameDecoder decoder_;
  Bytes in_;
  std::size_t in_at_ = 0;
  Bytes out_;
  std::size_t sent_ = 0;
};

// Connects to `socket_name` below `run_fd`'s directory and exchanges HELLO on first receipt. The agent's
// socket (vsock.sock) first takes the port.
[[nodiscard]] Result<FrameLink> connect_agent(int directory_fd, Deadline deadline);
[[nodiscard]] Result<FrameLink> connect_control(int directory_fd);

// Sends HELLO and a REQUEST in one go.
void queue_request(FrameLink& link, std::string_view request_json);
// Takes the peer's HELLO from a frame, or passes anything else on: nullopt means "was HELLO, go on".
[[nodiscard]] Result<std::optional<proto::Frame>> skip_hello(proto::Frame frame);
// The answer to a request: the payload of REPLY; an ERROR frame becomes an Error whose code fits the agent's.
[[nodiscard]] Result<std::string> wait_reply(FrameLink& link, Deadline deadline);
// Error of an ERROR frame.
[[nodiscard]] Error error_from_frame(const proto::Frame& frame, std::string_view what);

}  // namespace msb::supervisor
