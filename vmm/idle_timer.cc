// SPDX-License-Identifier: Apache-2.0
#include "vmm/idle_timer.h"

#include <algorithm>

namespace msb::vmm {

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
  if (info.sessions > 0 || info.operations != operations_) touch();
  operations_ = info.operations;
  if (loop_.now() - last_activity_ >= period_) expired_();
}

}  // namespace msb::vmm
