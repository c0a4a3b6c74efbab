// SPDX-License-Identifier: Apache-2.0
// MainCommand: the session of a sandbox's main command, whose end is the sandbox's end. It is a client of the
// guest's agent like any other: through run/vsock.sock, with what the command prints going to the log.
//
// Hostile here: the agent's frames. Everything on the loop's thread.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "base/event_loop.h"
#include "proto/agent.h"
#include "vmm/ending.h"
#include "vmm/exec_log.h"
#include "vmm/frame_stream.h"

namespace msb::vmm {

class MainCommand final : private FrameStream::Events {
 public:
  struct Options {
    int run_fd = -1;      // the directory with vsock.sock; used by start() only
    std::string request;  // JSON of the exec request
    bool logged = true;   // whether its output goes to the log; its end always does
  };
  // Connects and asks the agent to start it. `ended` is called once, from the loop: with its exit, or with
  // none and the reason if it was lost. Borrows loop and log; must not be destroyed from within `ended`.
  [[nodiscard]] static Result<std::unique_ptr<MainCommand>> start(EventLoop& loop, const Options& options,
                                                                  ExecLog& log,
                                                                  std::function<void(Ending)> ended);

  // Whether `session` is its session, which the log hears of from here.
  [[nodiscard]] bool is_session(std::uint64_t session) const { return session == session_; }

 private:
  MainCommand(EventLoop& loop, bool logged, ExecLog& log, std::function<void(Ending)> ended)
      : loop_(loop), logged_(logged), log_(log), ended_(std::move(ended)) {}
  void on_frame(FrameStream& stream, const proto::Frame& frame) override;
  void on_closed(FrameStream& stream, const std::string& why) override;
  void on_error(std::string_view payload);
  void tell(Ending ending);

  EventLoop& loop_;
  const bool logged_;
  ExecLog& log_;
  std::function<void(Ending)> ended_;  // empty once called
  std::unique_ptr<FrameStream> stream_;
  std::uint64_t session_ = 0;  // 0: not started
};

}  // namespace msb::vmm
