// SPDX-License-Identifier: Apache-2.0
// Time as an argument. Library code never reads a clock: it is given an Instant or a Clock.
#pragma once

#include <ctime>

#include <chrono>
#include <compare>
#include <cstdint>

namespace msb {

using Duration = std::chrono::nanoseconds;

// A point on the monotonic clock, in nanoseconds since an arbitrary start (the host's boot).
struct Instant {
  std::int64_t ns = 0;
  friend constexpr auto operator<=>(const Instant&, const Instant&) = default;
  friend constexpr Instant operator+(Instant at, Duration by) { return Instant{at.ns + by.count()}; }
  friend constexpr Instant operator-(Instant at, Duration by) { return Instant{at.ns - by.count()}; }
  friend constexpr Duration operator-(Instant a, Instant b) { return Duration{a.ns - b.ns}; }
};

class Clock {
 public:
  virtual ~Clock() = default;
  // Monotonic; does not advance while the host sleeps.
  [[nodiscard]] virtual Instant now() const = 0;
};

class SteadyClock final : public Clock {
 public:
  [[nodiscard]] Instant now() const override {
    timespec ts{};
    ::clock_gettime(CLOCK_MONOTONIC, &ts);
    return Instant{static_cast<std::int64_t>(ts.tv_sec) * 1'000'000'000 + ts.tv_nsec};
  }
};

// For tests: stands still until told.
class FakeClock final : public Clock {
 public:
  [[nodiscard]] Instant now() const override { return now_; }
  void advance(Duration by) { now_ = now_ + by; }

 private:
  Instant now_{1'000'000'000};
};

// Wall-clock nanoseconds since 1970-01-01 UTC; for time stamps that people read, never for intervals.
[[nodiscard]] inline std::int64_t wall_clock_ns() {
  timespec ts{};
  ::clock_gettime(CLOCK_REALTIME, &ts);
  return static_cast<std::int64_t>(ts.tv_sec) * 1'000'000'000 + ts.tv_nsec;
}

}  // namespace msb
