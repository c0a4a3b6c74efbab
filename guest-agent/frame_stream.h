// SPDX-License-Identifier: Apache-2.0
// Frames over a blocking socket, for a worker thread that owns it.
#pragma once

#include <optional>

#include "base/bytes.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "guest-agent/connection.h"
#include "proto/frame.h"
#include "proto/json_fields.h"

namespace msb::agent {

class FrameStream {
 public:
  // Takes the connection as the event loop left it.
  explicit FrameStream(Connection::Raw raw);

  // Blocks until the socket has taken it. Errors: kUnavailable when the peer is gone.
  [[nodiscard]] Status send(proto::FrameType type, ByteView payload);
  template <typename Message>
  [[nodiscard]] Status send_message(proto::FrameType type, const Message& message) {
    return send(type, as_bytes(proto::to_json(message)));
  }
  // The next frame; its payload is valid until the next call. Errors: kUnavailable at the end of the stream.
  [[nodiscard]] Result<proto::Frame> receive();
  [[nodiscard]] int socket() const { return socket_.get(); }

 private:
  [[nodiscard]] Status send_all(ByteView first, ByteView second);

  UniqueFd socket_;
  Bytes unsent_;
  Bytes buffer_;
  ByteView input_;  // in buffer_
  proto::FrameDecoder decoder_;
};

}  // namespace msb::agent
