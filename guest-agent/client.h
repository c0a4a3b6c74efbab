// SPDX-License-Identifier: Apache-2.0
// One client connection: HELLO, one request, and the conversation that belongs to it (proto/agent.h).
#pragma once

#include <cstdint>

#include "guest-agent/connection.h"
#include "guest-agent/session.h"
#include "proto/agent.h"

namespace msb::agent {

class Server;

class Client final : public ConnectionEvents, public SessionClient {
 public:
  Client(EventLoop& loop, Server& server, UniqueFd socket);
  ~Client() override;
  [[nodiscard]] Status start() { return connection_.start(); }

  // The command was started (session: attached from its first byte) or was not.
  void on_started(Session& session);
  void fail(const proto::ErrorReply& error);
  [[nodiscard]] bool gone() const { return state_ == State::kDone; }
  // Another client took over the session.
  void session_stolen();

  void on_frame(const proto::Frame& frame) override;
  void on_batch_end() override;
  void on_drained() override;
  void on_gone(const Status& why) override;
  void session_output(proto::FrameType stream, ByteView data) override;
  [[nodiscard]] bool output_backlogged() const override { return connection_.backlogged(); }
  void input_drained() override;
  void session_exited(const proto::Exit& exit) override;

 private:
  enum class State : std::uint8_t { kHello, kRequest, kStarting, kSession, kFinishing, kDone };

  void on_hello(const proto::Frame& frame);
  void on_request(const proto::Frame& frame);
  void on_session_frame(const proto::Frame& frame);
  void handle(proto::ExecRequest request);
  void handle(const proto::AttachRequest& request);
  void handle(const proto::SessionsRequest& request);
  void handle(const proto::KillRequest& request);
  void handle(const proto::InfoRequest& request);
  void handle(const proto::PingRequest& request);
  void handle(proto::FileRequest request);
  template <typename Message>
  void reply(const Message& message);
  void fail_with(const Error& error, std::string_view stage);
  void detach();

  Server& server_;
  Connection connection_;
  State state_ = State::kHello;
  std::uint64_t session_ = 0;
};

}  // namespace msb::agent
