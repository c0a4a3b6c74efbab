// SPDX-License-Identifier: Apache-2.0
// IdleTimer: ends a sandbox in which nothing has happened for a while.
//
// Only the agent knows whether sessions run, so it is asked, four times in the period; a machine that need
// not be watched is never woken for this. Everything on the loop's thread.
#pragma once

#include <chrono>
#include <functional>

#include "base/event_loop.h"
#include "proto/agent.h"

namespace msb::vmm {

class IdleTimer {
 public:
  // Starts with a moment of activity. `ask` asks the agent for its GuestInfo, if it can be asked now; the
  // answer goes to heard(). `expired` is called when `period` passed without activity, from heard() and
  // whenever it is told so again. Borrows the loop; must live as long as it runs.
  IdleTimer(EventLoop& loop, std::chrono::seconds period, std::function<void()> ask,
            std::function<void()> expired);
  ~IdleTimer();
  IdleTimer(const IdleTimer&) = delete;
  IdleTimer& operator=(const IdleTimer&) = delete;

  // Somebody uses the sandbox.
  void touch() { last_activity_ = loop_.now(); }
  void heard(const proto::GuestInfo& info);

 private:
  void ask_later();

  EventLoop& loop_;
  const std::chrono::seconds period_;
  const std::function<void()> ask_;
  const std::function<void()> expired_;
  EventLoop::TimerToken timer_ = 0;
  Instant last_activity_;
  std::uint64_t operations_ = 0;  // that the guest had counted when it was last heard
};

}  // namespace msb::vmm
