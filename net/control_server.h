// SPDX-License-Identifier: Apache-2.0
// The control descriptor of msb-net: REQUEST frames in, REPLY or ERROR frames out (proto/frame.h), one after
// another; and EVENT frames out, between them.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "base/event_loop.h"
#include "base/unique_fd.h"
#include "proto/frame.h"

namespace msb::net {

// The payload of an ERROR frame.
[[nodiscard]] std::string control_error_json(const Error& error);

class ControlServer {
 public:
  using Handler = std::function<Result<std::string>(std::string_view request)>;
  // `socket` is a connected stream to the supervisor, which alone holds the other end.
  [[nodiscard]] static Result<std::unique_ptr<ControlServer>> create(EventLoop& loop, UniqueFd socket,
                                                                     Handler handler);
  ~ControlServer();
  // Sends one READY frame with `json`.
  void announce(const std::string& json);
  // Asks the supervisor for the host's resolv.conf as it is now. It answers with a request (op "resolv_conf")
  // if the text has changed.
  void ask_for_resolv_conf();

 private:
  ControlServer(EventLoop& loop, UniqueFd socket, Handler handler)
      : loop_(loop), socket_(std::move(socket)), handler_(std::move(handler)) {}
  void on_event(std::uint32_t events);
  void answer(std::string_view request);
  void flush();
  void stop();
  EventLoop& loop_;
  UniqueFd socket_;
  Handler handler_;
  EventLoop::IoToken token_;
  proto::FrameDecoder decoder_;
  Bytes out_;
};

}  // namespace msb::net
