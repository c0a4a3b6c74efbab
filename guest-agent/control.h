// SPDX-License-Identifier: Apache-2.0
// The control channel: one connection the agent makes to the host. READY goes out; SHUTDOWN, CLOCK, PING and
// REQUEST {"op":"info"} come in; EVENT and LOG go out as things happen. LOG is bounded: what a slow host does
// not take is dropped and counted, never waited for.
#pragma once

#include <cstdint>
#include <unordered_map>

#include "guest-agent/connection.h"
#include "proto/agent.h"

namespace msb::agent {

class Server;

class Control final : public ConnectionEvents {
 public:
  Control(EventLoop& loop, Server& server, UniqueFd socket);
  [[nodiscard]] Status start(const proto::Ready& ready);

  void log(std::uint64_t session, proto::LogStream stream, ByteView data);
  void forget_session(std::uint64_t session) { dropped_.erase(session); }
  void event(const proto::ControlEvent& event);
  // Sends SHUTDOWN_DONE and everything before it, waiting at most a second.
  void shutdown_done();

  void on_frame(const proto::Frame& frame) override;
  void on_batch_end() override {}
  void on_drained() override {}
  void on_gone(const Status& why) override;

 private:
  Server& server_;
  Connection connection_;
  bool gone_ = false;
  bool greeted_ = false;
  std::unordered_map<std::uint64_t, std::uint64_t> dropped_;  // session: bytes not sent since its last LOG
};

}  // namespace msb::agent
