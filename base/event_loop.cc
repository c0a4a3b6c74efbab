// SPDX-License-Identifier: Apache-2.0
#include "base/event_loop.h"

#include <sys/eventfd.h>

#include <algorithm>
#include <array>
#include <limits>

namespace msb {
namespace {
constexpr std::uint64_t kWakeWord = ~std::uint64_t{0};
constexpr std::size_t kEventsPerRound = 64;

std::uint64_t pack(std::uint32_t slot, std::uint32_t generation) {
  return std::uint64_t{generation} << 32 | slot;
}
}  // namespace

Result<std::unique_ptr<EventLoop>> EventLoop::create() {
  UniqueFd epoll(::epoll_create1(EPOLL_CLOEXEC));
  if (!epoll) return sys_error("create epoll");
  UniqueFd wake(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake) return sys_error("create eventfd");
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = kWakeWord;
  if (::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, wake.get(), &event) != 0) return sys_error("watch eventfd");
  return std::unique_ptr<EventLoop>(new EventLoop(std::move(epoll), std::move(wake)));
}

EventLoop::EventLoop(UniqueFd epoll, UniqueFd wake) : epoll_(std::move(epoll)), wake_(std::move(wake)) {}
EventLoop::~EventLoop() = default;

EventLoop::Slot* EventLoop::find(IoToken token) {
  if (!token.valid() || token.slot >= slots_.size()) return nullptr;
  Slot& slot = slots_[token.slot];
  return slot.generation == token.generation && slot.fd >= 0 ? &slot : nullptr;
}

Result<EventLoop::IoToken> EventLoop::add(int fd, std::uint32_t epoll_events, IoHandler handler) {
  std::uint32_t index = 0;
  if (free_slots_.empty()) {
    index = static_cast<std::uint32_t>(slots_.size());
    slots_.emplace_back();
  } else {
    index = free_slots_.back();
    free_slots_.pop_back();
  }
  Slot& slot = slots_[index];
  epoll_event event{};
  event.events = epoll_events;
  event.data.u64 = pack(index, slot.generation);
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) {
    const Error error = sys_error("watch descriptor");
    free_slots_.push_back(index);
    return error;
  }
  slot.fd = fd;
  slot.handler = std::make_shared<IoHandler>(std::move(handler));
  return IoToken{index, slot.generation};
}

Status EventLoop::modify(IoToken token, std::uint32_t epoll_events) {
  const Slot* slot = find(token);
  if (slot == nullptr) return make_error(Errc::kNotFound, "change a registration that is gone");
  epoll_event event{};
  event.events = epoll_events;
  event.data.u64 = pack(token.slot, token.generation);
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, slot->fd, &event) != 0)
    return sys_error("change watched events");
  return {};
}

void EventLoop::remove(IoToken token) {
  Slot* slot = find(token);
  if (slot == nullptr) return;
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, slot->fd, nullptr);
  slot->fd = -1;
  slot->handler.reset();
  if (++slot->generation == 0) slot->generation = 1;
  free_slots_.push_back(token.slot);
}

EventLoop::TimerToken EventLoop::add_timer(Instant deadline, Task task) {
  const TimerToken token = next_timer_++;
  timers_.push(Timer{deadline, token, std::make_shared<Task>(std::move(task))});
  live_timers_.insert(token);
  return token;
}

void EventLoop::cancel_timer(TimerToken token) {
  live_timers_.erase(token);
  // Tombstones are dropped when they surface; rebuild when they outnumber the living, so that a program that
  // arms and cancels for months does not grow.
  if (timers_.size() > 64 && timers_.size() / 2 > live_timers_.size()) {
    std::vector<Timer> kept;
    kept.reserve(live_timers_.size());
    while (!timers_.empty()) {
      if (live_timers_.contains(timers_.top().token)) kept.push_back(timers_.top());
      timers_.pop();
    }
    timers_ = std::priority_queue<Timer, std::vector<Timer>, Later>(Later{}, std::move(kept));
  }
}

void EventLoop::post(Task task) {
  {
    const std::lock_guard lock(posted_mutex_);
    posted_.push_back(std::move(task));
  }
  const std::uint64_t one = 1;
  // Only EAGAIN can happen, when the counter is full; then the loop is awake anyway.
  [[maybe_unused]] const auto written = ::write(wake_.get(), &one, sizeof one);
}

void EventLoop::stop() {
  stopping_.store(true, std::memory_order_release);
  const std::uint64_t one = 1;
  [[maybe_unused]] const auto written = ::write(wake_.get(), &one, sizeof one);
}

Status EventLoop::run() {
  while (!stopping_.exchange(false, std::memory_order_acq_rel)) MSB_TRY(run_once(std::nullopt));
  return {};
}

int EventLoop::timeout_ms(std::optional<Duration> wait) {
  while (!timers_.empty() && !live_timers_.contains(timers_.top().token)) timers_.pop();
  std::optional<Duration> limit = wait;
  if (!timers_.empty()) {
    const Duration until = std::max(timers_.top().deadline - now(), Duration{0});
    limit = limit ? std::min(*limit, until) : until;
  }
  if (!limit) return -1;
  // Round up: waking before the deadline would only spin.
  const std::int64_t ms = (limit->count() + 999'999) / 1'000'000;
  return static_cast<int>(std::min<std::int64_t>(ms, std::numeric_limits<int>::max()));
}

void EventLoop::run_timers() {
  const Instant at = now();
  // Timers armed by these tasks for "now" wait for the next round, so a handler cannot starve the
  // descriptors.
  const TimerToken newest = next_timer_;
  while (!timers_.empty() && timers_.top().deadline <= at && timers_.top().token < newest) {
    const Timer timer = timers_.top();
    timers_.pop();
    if (live_timers_.erase(timer.token) != 0) (*timer.task)();
  }
}

void EventLoop::run_posted() {
  std::vector<Task> tasks;
  {
    const std::lock_guard lock(posted_mutex_);
    tasks.swap(posted_);
  }
  for (const Task& task : tasks) task();
}

Status EventLoop::run_once(std::optional<Duration> wait) {
  std::array<epoll_event, kEventsPerRound> events;
  const int count =
      ::epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), timeout_ms(wait));
  if (count < 0 && errno != EINTR) return sys_error("wait for events");
  for (int i = 0; i < count; ++i) {
    const epoll_event& event = events[static_cast<std::size_t>(i)];
    if (event.data.u64 == kWakeWord) {
      std::uint64_t drained = 0;
      [[maybe_unused]] const auto got = ::read(wake_.get(), &drained, sizeof drained);
      run_posted();
      continue;
    }
    const IoToken token{static_cast<std::uint32_t>(event.data.u64),
                        static_cast<std::uint32_t>(event.data.u64 >> 32)};
    if (const Slot* slot = find(token)) {
      const std::shared_ptr<IoHandler> handler = slot->handler;
      (*handler)(event.events);
    }
  }
  run_timers();
  return {};
}

}  // namespace msb
