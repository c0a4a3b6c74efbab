// SPDX-License-Identifier: Apache-2.0
// A token bucket that may go into debt: what is charged always passes, and the next has to wait until the
// debt is paid. A one-time credit is spent first and never refilled. Pure: time is an argument.
#pragma once

#include <algorithm>
#include <cstdint>

#include "base/clock.h"

namespace msb::net {

class TokenBucket {
 public:
  TokenBucket() = default;  // without limit
  // `per_second` tokens, at most that many saved up; `credit` extra at the start. 0 per second: without
  // limit.
  TokenBucket(std::uint64_t per_second, std::uint64_t credit, Instant now)
      : rate_(static_cast<double>(per_second)),
        level_(rate_),
        credit_(static_cast<double>(credit)),
        at_(now) {}
  [[nodiscard]] bool limited() const { return rate_ > 0; }
  void charge(std::uint64_t tokens, Instant now) {
    if (!limited()) return;
    refill(now);
    auto cost = static_cast<double>(tokens);
    const double from_credit = std::min(cost, credit_);
    credit_ -= from_credit;
    level_ -= cost - from_credit;
  }
  [[nodiscard]] bool ready(Instant now) {
    if (!limited()) return true;
    refill(now);
    return level_ > 0 || credit_ > 0;
  }
  // When ready() turns true.
  [[nodiscard]] Instant ready_at(Instant now) {
    if (ready(now)) return now;
    return now + Duration(static_cast<std::int64_t>((1.0 - level_) / rate_ * 1e9) + 1);
  }

 private:
  void refill(Instant now) {
    if (now <= at_) return;
    level_ = std::min(rate_, level_ + rate_ * static_cast<double>((now - at_).count()) / 1e9);
    at_ = now;
  }
  double rate_ = 0;
  double level_ = 0;
  double credit_ = 0;
  Instant at_;
};

}  // namespace msb::net
