// SPDX-License-Identifier: Apache-2.0
#include "base/log.h"

#include <unistd.h>

#include <cstdarg>
#include <cstdio>
#include <ctime>

#include "base/clock.h"

namespace msb {
namespace {
const char* g_program = "msb";
LogLevel g_level = LogLevel::kWarn;

const char* level_name(LogLevel level) {
  switch (level) {
    case LogLevel::kError:
      return "error";
    case LogLevel::kWarn:
      return "warn";
    case LogLevel::kInfo:
      return "info";
    case LogLevel::kDebug:
      return "debug";
    case LogLevel::kTrace:
      return "trace";
  }
  return "error";
}
}  // namespace

void log_setup(const char* program, LogLevel level) {
  g_program = program;
  g_level = level;
}

bool log_enabled(LogLevel level) { return level <= g_level; }

void log_line(LogLevel level, const char* format, ...) {
  char line[1024];
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  tm utc{};
  ::gmtime_r(&now.tv_sec, &utc);
  int used =
      std::snprintf(line, sizeof line, "%04d-%02d-%02dT%02d:%02d:%02d.%03ldZ %s %s: ", utc.tm_year + 1900,
                    utc.tm_mon + 1, utc.tm_mday, utc.tm_hour, utc.tm_min, utc.tm_sec, now.tv_nsec / 1'000'000,
                    level_name(level), g_program);
  if (used < 0) return;
  auto length = static_cast<std::size_t>(used);
  va_list args;
  va_start(args, format);
  used = std::vsnprintf(line + length, sizeof line - length - 1, format, args);
  va_end(args);
  if (used < 0) return;
  length += static_cast<std::size_t>(used);
  if (length > sizeof line - 2) length = sizeof line - 2;
  line[length++] = '\n';
  [[maybe_unused]] const auto written = ::write(STDERR_FILENO, line, length);
}

std::string quote_for_log(std::string_view bytes, std::size_t max) {
  std::string out;
  for (const char c : bytes.substr(0, max)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x20 && byte < 0x7f && byte != '\\') {
      out += c;
    } else {
      char escape[5];
      std::snprintf(escape, sizeof escape, "\\x%02x", static_cast<unsigned>(byte));
      out += escape;
    }
  }
  if (bytes.size() > max) out += "...";
  return out;
}

bool LogLimiter::allow(std::uint64_t& suppressed) {
  constexpr std::int64_t kWindowNs = 5'000'000'000;
  constexpr std::uint32_t kLines = 10;
  const std::int64_t now = SteadyClock().now().ns;
  std::int64_t start = window_start_ns_.load(std::memory_order_relaxed);
  if ((start == 0 || now - start > kWindowNs) && window_start_ns_.compare_exchange_strong(start, now)) {
    in_window_.store(0, std::memory_order_relaxed);
  }
  if (in_window_.fetch_add(1, std::memory_order_relaxed) < kLines) {
    suppressed = suppressed_.exchange(0, std::memory_order_relaxed);
    return true;
  }
  suppressed_.fetch_add(1, std::memory_order_relaxed);
  return false;
}

}  // namespace msb
