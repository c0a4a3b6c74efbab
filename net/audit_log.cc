// SPDX-License-Identifier: Apache-2.0
#include "net/audit_log.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <ctime>

namespace msb::net {
namespace {
constexpr std::string_view kPattern = "YYYY-MM-DDTHH:MM:SS.mmmZ";
constexpr std::size_t kMillisecondsAt = kPattern.find("mmm");
}  // namespace

AuditLog::~AuditLog() {
  loop_.cancel_timer(timer_);
  flush();
}

void AuditLog::append(std::string_view line) {
  if (pending_.size() + line.size() >= kMaxPending) flush();
  if (pending_.size() + line.size() >= kMaxPending) {
    ++lost_;
    return;
  }
  pending_ += line;
  pending_ += '\n';
  flush_later();
}

void AuditLog::flush_later() {
  if (timer_ != 0) return;
  timer_ = loop_.add_timer_after(kDelay, [this] {
    timer_ = 0;
    flush();
  });
}

// A pipe may take a part only: the rest of a line that has begun has to follow, whatever else is lost.
void AuditLog::flush() {
  if (pending_.empty()) return;
  const ssize_t wrote = ::write(fd_.get(), pending_.data(), pending_.size());
  if (wrote > 0) pending_.erase(0, static_cast<std::size_t>(wrote));
  if (wrote < 0 && errno != EAGAIN && errno != EINTR) {  // nobody reads any more
    lost_ += static_cast<std::uint64_t>(std::count(pending_.begin(), pending_.end(), '\n'));
    pending_.clear();
  }
  if (!pending_.empty()) flush_later();
}

std::string_view AuditLog::now() {
  const std::int64_t ns = wall_clock_ns();
  if (ns / 1'000'000'000 != second_) {
    second_ = ns / 1'000'000'000;
    const std::time_t seconds = static_cast<std::time_t>(second_);
    std::tm parts{};
    ::gmtime_r(&seconds, &parts);
    time_.assign(kPattern.size() + 1, '\0');
    time_.resize(std::strftime(time_.data(), time_.size(), "%Y-%m-%dT%H:%M:%S.000Z", &parts));
  }
  std::int64_t milliseconds = ns / 1'000'000 % 1000;
  for (std::size_t i = 3; i-- > 0 && time_.size() == kPattern.size(); milliseconds /= 10)
    time_[kMillisecondsAt + i] = static_cast<char>('0' + milliseconds % 10);
  return time_;
}

}  // namespace msb::net
