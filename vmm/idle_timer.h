// SPDX-License-Identifier: Apache-2.0
// IdleTimer: ends a sandbox in which nothing has happened for a while.
//
// Only the guest knows what it does, so its agent is asked, four times in the period; a machine that need not
// be watched is never woken for this. Everything on the loop's thread.
#pragma once

#include <chrono>
#include <functional>

#include "base/event_loop.h"
#include "proto/agent.h"

namespace msb::vmm {

// Whether something happened in a guest that said `before` and then `now`: a session runs, a request was
// served, its processors together worked more than a tenth of one, or more than a KiB passed its interface.
// What an idle system and the question itself cost stays below. Counters that go backwards are activity.
[[nodiscard]] bool was_active(const proto::GuestInfo& before, const proto::GuestInfo& now);

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
  proto::GuestInfo before_;  // what was heard last; at first all zero, as when the guest began
};

}  // namespace msb::vmm
