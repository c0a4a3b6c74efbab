// SPDX-License-Identifier: Apache-2.0
// The audit stream's writer: JSON lines, gathered for a moment and written together.
//
// A guest that opens connections in a loop must not make a write, and a wake-up of the reader, out of each
// line: lines wait for at most kDelay, then go out in one write. The descriptor is a non-blocking pipe in a
// running sandbox; what it does not take is kept, up to kMaxPending, and then whole lines are lost and
// counted. Traffic never waits.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/event_loop.h"
#include "base/unique_fd.h"

namespace msb::net {

class AuditLog {
 public:
  static constexpr Duration kDelay = std::chrono::milliseconds(50);
  static constexpr std::size_t kMaxPending = 64 * 1024;

  // `loop` is borrowed and outlives the log; everything happens on its thread.
  AuditLog(EventLoop& loop, UniqueFd fd) : loop_(loop), fd_(std::move(fd)) {}
  // What is left is written if the descriptor takes it.
  ~AuditLog();
  AuditLog(const AuditLog&) = delete;
  AuditLog& operator=(const AuditLog&) = delete;

  // `line` without its newline.
  void append(std::string_view line);
  // Writes what waits, now.
  void flush();
  // Lines that were never written.
  [[nodiscard]] std::uint64_t lost() const { return lost_; }
  // The time of day for a line, in UTC, to the millisecond: 2026-01-31T12:00:00.000Z.
  [[nodiscard]] std::string_view now();

 private:
  void flush_later();

  EventLoop& loop_;
  UniqueFd fd_;
  std::string pending_;
  EventLoop::TimerToken timer_ = 0;
  std::uint64_t lost_ = 0;
  std::int64_t second_ = -1;  // whose text time_ begins with
  std::string time_;
};

}  // namespace msb::net
