// SPDX-License-Identifier: Apache-2.0
// One stream socket on the event loop, in frames.
//
// Back-pressure. What the socket does not take at once waits in a backlog; whoever produces output asks
// backlogged() and stops until on_drained(). A consumer that cannot take more calls pause(): nothing more is
// read from the socket, and at most one receive buffer is held, until resume().
#pragma once

#include "base/bytes.h"
#include "base/event_loop.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "proto/frame.h"
#include "proto/json_fields.h"

namespace msb::agent {

class ConnectionEvents {
 public:
  virtual ~ConnectionEvents() = default;
  // One frame; its payload is valid during the call. May pause(), close() or hand over the connection.
  virtual void on_frame(const proto::Frame& frame) = 0;
  // All frames that had arrived are delivered; queued answers may wait for more until here.
  virtual void on_batch_end() = 0;
  // The backlog is empty again.
  virtual void on_drained() = 0;
  // The peer closed or vanished, or sent what is no frame (`why` then says so). Called once; nothing follows.
  // Like every call here it comes from inside the connection: destroy that later (EventLoop::post).
  virtual void on_gone(const Status& why) = 0;
};

class Connection {
 public:
  // `socket` is made non-blocking. `events` must outlive the connection.
  Connection(EventLoop& loop, UniqueFd socket, ConnectionEvents& events);
  ~Connection();
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;
  [[nodiscard]] Status start();

  // Sends now what the socket takes, the rest later.
  void send(proto::FrameType type, ByteView payload);
  template <typename Message>
  void send_message(proto::FrameType type, const Message& message) {
    send(type, as_bytes(proto::to_json(message)));
  }
  // Puts a frame into the backlog without sending, to travel with the next one.
  void queue(proto::FrameType type, ByteView payload);
  void flush();
  // Waits for the socket until the backlog is sent, at most `timeout_ms` in all. Only for the very end.
  void flush_blocking(int timeout_ms);
  [[nodiscard]] bool backlogged() const { return sent_ < backlog_.size(); }
  [[nodiscard]] std::size_t backlog_bytes() const { return backlog_.size() - sent_; }

  void pause();
  void resume();

  // Stops reading; closes once the backlog is sent. on_gone is still called, when that is done or has failed.
  void finish();
  // Takes the socket away from the loop, for a worker: call it from on_frame.
  struct Raw {
    UniqueFd socket;
    Bytes received;  // behind the frame being handled
    Bytes unsent;    // to be sent first
  };
  [[nodiscard]] Raw hand_over();

 private:
  void on_ready(std::uint32_t ready);
  void receive();
  void deliver(ByteView input);
  void watch();
  void fail(const Status& why);

  EventLoop& loop_;
  UniqueFd socket_;
  ConnectionEvents& events_;
  EventLoop::IoToken token_;
  std::uint32_t watched_ = 0;
  proto::FrameDecoder decoder_;
  Bytes backlog_;
  std::size_t sent_ = 0;
  Bytes pending_;         // received while paused
  ByteView undelivered_;  // during deliver(): what follows the frame being handled
  bool delivering_ = false;
  bool paused_ = false;
  bool finishing_ = false;
  bool gone_ = false;
};

}  // namespace msb::agent
