// SPDX-License-Identifier: Apache-2.0
// FrameStream: frames (proto/frame.h) over a non-blocking stream socket on an event loop; for control
// clients, the agent's control channel and the main command's session. Optionally a text line comes first
// (vsock's CONNECT).
//
// Theory of operation. Reads are bounded per wake-up. What the peer does not take is queued up to a limit;
// beyond it the stream is closed, since a peer that does not read must not cost memory. Callbacks run on the
// loop; after on_closed() nothing more comes. The owner may destroy the stream in on_closed() or any other
// callback only through dispose().
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "base/event_loop.h"
#include "base/result.h"
#include "proto/frame.h"

namespace msb::vmm {

class FrameStream {
 public:
  class Events {
   public:
    virtual ~Events() = default;
    virtual void on_frame(FrameStream& stream, const proto::Frame& frame) = 0;
    // The peer is gone or broke the protocol; `why` is for people.
    virtual void on_closed(FrameStream& stream, const std::string& why) = 0;
  };
  enum class Preface : std::uint8_t { kNone, kOkLine };

  // Borrows loop and events; takes the socket, makes it non-blocking and starts.
  [[nodiscard]] static Result<std::unique_ptr<FrameStream>> open(EventLoop& loop, UniqueFd socket,
                                                                 Events& events,
                                                                 Preface preface = Preface::kNone);
  ~FrameStream();

  void send_text(std::string_view line);
  void send(proto::FrameType type, std::string_view payload);
  // True when everything sent has left for the kernel.
  [[nodiscard]] bool drained() const { return out_.size() == sent_; }
  // Destroys a stream from within its own callbacks.
  static void dispose(EventLoop& loop, std::unique_ptr<FrameStream> stream);

 private:
  FrameStream(EventLoop& loop, UniqueFd socket, Events& events, Preface preface)
      : loop_(loop), socket_(std::move(socket)), events_(events), preface_(preface) {}
  void on_events(std::uint32_t epoll_events);
  void read_some();
  void deliver(ByteView input);
  void flush();
  void fail(const std::string& why);

  EventLoop& loop_;
  UniqueFd socket_;
  Events& events_;
  Preface preface_;
  EventLoop::IoToken token_;
  proto::FrameDecoder decoder_;
  std::string line_;
  Bytes out_;
  std::size_t sent_ = 0;
  bool closed_ = false;
};

}  // namespace msb::vmm
