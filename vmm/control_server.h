// SPDX-License-Identifier: Apache-2.0
// ControlServer: the clients of run/control.sock. It speaks proto/control.h and leaves the doing to its
// handler.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/event_loop.h"
#include "base/result.h"
#include "proto/control.h"
#include "vmm/frame_stream.h"

namespace msb::vmm {

class ControlServer final : private FrameStream::Events {
 public:
  class Handler {
   public:
    virtual ~Handler() = default;
    [[nodiscard]] virtual std::string status_json() = 0;
    virtual void stop_asked(const proto::ControlRequest& request) = 0;
    virtual void kill_asked() = 0;
    // Starts pausing or resuming; pause_done() follows.
    [[nodiscard]] virtual Status pause_asked(bool pause) = 0;
    virtual void touched() = 0;
    // Passes a request on to msb-net; net_answered() with the same client follows.
    [[nodiscard]] virtual Status net_asked(std::uint64_t client, const std::string& request) = 0;
  };
  // Takes a listening, non-blocking socket; borrows the rest.
  [[nodiscard]] static Result<std::unique_ptr<ControlServer>> open(EventLoop& loop, UniqueFd listener,
                                                                   Handler& handler);
  ~ControlServer() override;

  // To those who asked for events.
  void announce(std::string_view state);
  // The guest's kernel has killed `count` processes so far for want of memory.
  void announce_oom(std::uint64_t count);
  void pause_done();
  // msb-net's REPLY or ERROR to that client, who may have gone.
  void net_answered(std::uint64_t client, proto::FrameType type, std::string_view payload);
  // Answers everybody who waits for the end: `end_json` to wait, {} to stop and kill.
  void ended(const std::string& end_json);

 private:
  enum class Waiting : std::uint8_t { kNothing, kEnd, kStop, kPause };
  struct Client {
    std::uint64_t id = 0;
    std::unique_ptr<FrameStream> stream;
    Waiting waiting = Waiting::kNothing;
    bool events = false;
  };
  ControlServer(EventLoop& loop, UniqueFd listener, Handler& handler)
      : loop_(loop), listener_(std::move(listener)), handler_(handler) {}
  void broadcast(std::string_view event);
  // Replies to everybody who waits for that, once.
  void answer(Waiting waiting, std::string_view reply);
  void tell(proto::FrameType type, std::string_view text, const std::function<bool(Client&)>& whom);
  void accept_clients();
  void on_frame(FrameStream& stream, const proto::Frame& frame) override;
  void on_closed(FrameStream& stream, const std::string& why) override;
  void on_request(Client& client, std::string_view text);
  static void refuse(Client& client, const Error& error);

  EventLoop& loop_;
  UniqueFd listener_;
  Handler& handler_;
  EventLoop::IoToken token_;
  std::vector<std::unique_ptr<Client>> clients_;
  std::uint64_t next_id_ = 1;
};

}  // namespace msb::vmm
