// SPDX-License-Identifier: Apache-2.0
// EventLoop: one epoll loop per process (or per device thread): descriptors, timers, and work posted from
// other threads.
//
// Theory of operation. Descriptors are level-triggered. A registration is a slot plus a generation, both
// packed into the epoll data word: an event that was already collected for a registration removed meanwhile
// finds another generation and is dropped, so a handler never runs for a descriptor that is gone. Timers are
// a heap ordered by deadline; a cancelled one leaves a tombstone that is skipped. Handlers run on the thread
// that calls run(); only post() and stop() may be called from other threads. Handlers may add, modify and
// remove any registration, their own included.
#pragma once

#include <sys/epoll.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <queue>
#include <unordered_set>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "base/unique_fd.h"

namespace msb {

class EventLoop {
 public:
  struct IoToken {
    std::uint32_t slot = 0;
    std::uint32_t generation = 0;  // 0 is never given out: a default token is "none"
    [[nodiscard]] bool valid() const { return generation != 0; }
  };
  using TimerToken = std::uint64_t;  // 0 is never given out
  using IoHandler = std::function<void(std::uint32_t epoll_events)>;
  using Task = std::function<void()>;

  [[nodiscard]] static Result<std::unique_ptr<EventLoop>> create();
  ~EventLoop();
  EventLoop(const EventLoop&) = delete;
  EventLoop& operator=(const EventLoop&) = delete;

  // Watches `fd` (borrowed: keep it open until removed) for EPOLLIN/EPOLLOUT/EPOLLRDHUP; errors and hang-ups
  // are always reported. One registration per descriptor.
  [[nodiscard]] Result<IoToken> add(int fd, std::uint32_t epoll_events, IoHandler handler);
  // Changes what is watched; 0 keeps the registration but hears only errors and hang-ups.
  [[nodiscard]] Status modify(IoToken token, std::uint32_t epoll_events);
  // Call before closing the descriptor. Unknown or stale tokens are ignored.
  void remove(IoToken token);

  // Runs `task` once when `deadline` has passed (on the clock of now()).
  TimerToken add_timer(Instant deadline, Task task);
  TimerToken add_timer_after(Duration delay, Task task) { return add_timer(now() + delay, std::move(task)); }
  // Unknown and fired tokens are ignored.
  void cancel_timer(TimerToken token);

  // Any thread: runs `task` on the loop's thread soon.
  void post(Task task);
  // Any thread: makes run() return after the current round.
  void stop();

  // Runs until stop(). Errors only if epoll itself fails.
  [[nodiscard]] Status run();
  // One round: waits at most `wait` (nullopt: until something happens) and dispatches.
  [[nodiscard]] Status run_once(std::optional<Duration> wait);

  [[nodiscard]] Instant now() const { return clock_.now(); }

 private:
  struct Slot {
    int fd = -1;
    std::uint32_t generation = 1;
    std::shared_ptr<IoHandler> handler;  // shared with the dispatch in progress, which may remove the slot
  };
  struct Timer {
    Instant deadline;
    TimerToken token;
    std::shared_ptr<Task> task;
  };
  struct Later {
    bool operator()(const Timer& a, const Timer& b) const {
      return a.deadline != b.deadline ? b.deadline < a.deadline : b.token < a.token;
    }
  };

  EventLoop(UniqueFd epoll, UniqueFd wake);
  [[nodiscard]] Slot* find(IoToken token);
  void run_timers();
  void run_posted();
  [[nodiscard]] int timeout_ms(std::optional<Duration> wait);

  UniqueFd epoll_;
  UniqueFd wake_;
  SteadyClock clock_;
  std::vector<Slot> slots_;
  std::vector<std::uint32_t> free_slots_;
  std::priority_queue<Timer, std::vector<Timer>, Later> timers_;
  std::unordered_set<TimerToken> live_timers_;
  TimerToken next_timer_ = 1;
  std::atomic<bool> stopping_{false};
  std::mutex posted_mutex_;
  std::vector<Task> posted_;  // guarded by posted_mutex_
};

}  // namespace msb
