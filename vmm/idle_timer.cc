// SPDX-License-Identifier: Apache-2.0
#include "vmm/idle_timer.h"

#include <algorithm>

namespace msb::vmm {
namespace {

constexpr std::uint64_t kBusyPart = 10;         // of one processor's time
constexpr std::uint64_t kQuietNetBytes = 1024;  // between two answers
}  // namespace

bool was_active(const proto::GuestInfo& before, const proto::GuestInfo& now) {
  if (now.sessions > 0 || now.operations != before.operations) return true;
  // A counter that went backwards wraps to a large number.
  if (now.cpu_busy_ns - before.cpu_busy_ns > (now.uptime_ns - before.uptime_ns) / kBusyPart) return true;
  return now.net_bytes - before.net_bytes > kQuietNetBytes;
}

IdleTimer::IdleTimer(EventLoop& loop, std::chrono::seconds period, std::function<void()> ask,
                     std::function<void()> expired)
    : loop_(loop), period_(period), ask_(std::move(ask)), expired_(std::move(expired)) {
  touch();
  ask_later();
}

IdleTimer::~IdleTimer() { loop_.cancel_timer(timer_); }

void IdleTimer::ask_later() {
  timer_ = loop_.add_timer_after(std::max(period_ / 4, std::chrono::seconds(1)), [this] {
    ask_();
    ask_later();
  });
}

void IdleTimer::heard(const proto::GuestInfo& info) {
  if (was_active(before_, info)) touch();
  before_ = info;
  if (loop_.now() - last_activity_ >= period_) expired_();
}

}  // namespace msb::vmm
