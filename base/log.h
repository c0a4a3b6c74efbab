// SPDX-License-Identifier: Apache-2.0
// Diagnostics of our own programs, to stderr, one line each: "2026-01-02T03:04:05.678Z warn msb-vmm: text".
// Never for secrets, never for guest bytes as they are: quote_for_log() them. Guest-driven sites use
// MSB_LOG_LIMITED, which lets at most ten lines through per five seconds and site.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <string_view>

namespace msb {

enum class LogLevel : std::uint8_t { kError, kWarn, kInfo, kDebug, kTrace };

// Process-wide set-up; call before threads start. `program` must outlive the process (a literal).
void log_setup(const char* program, LogLevel level);
[[nodiscard]] bool log_enabled(LogLevel level);
// printf-style. Any thread. One write(2) a line, so lines never interleave; longer than 1 KiB is cut.
void log_line(LogLevel level, const char* format, ...) __attribute__((format(printf, 2, 3)));
// Printable form of untrusted bytes: control and non-ASCII bytes as \xNN, at most `max` bytes of input.
[[nodiscard]] std::string quote_for_log(std::string_view bytes, std::size_t max = 256);

// State of one rate-limited site.
class LogLimiter {
 public:
  // True if a line may be written now; `suppressed` gets the number swallowed since the last one.
  [[nodiscard]] bool allow(std::uint64_t& suppressed);

 private:
  std::atomic<std::int64_t> window_start_ns_{0};
  std::atomic<std::uint32_t> in_window_{0};
  std::atomic<std::uint64_t> suppressed_{0};
};

}  // namespace msb

#define MSB_LOG(level, ...)                                             \
  do {                                                                  \
    if (::msb::log_enabled(level)) ::msb::log_line(level, __VA_ARGS__); \
  } while (false)
#define MSB_ERROR(...) MSB_LOG(::msb::LogLevel::kError, __VA_ARGS__)
#define MSB_WARN(...) MSB_LOG(::msb::LogLevel::kWarn, __VA_ARGS__)
#define MSB_INFO(...) MSB_LOG(::msb::LogLevel::kInfo, __VA_ARGS__)
#define MSB_DEBUG(...) MSB_LOG(::msb::LogLevel::kDebug, __VA_ARGS__)

#define MSB_LOG_LIMITED(level, ...)                                       \
  do {                                                                    \
    static ::msb::LogLimiter msb_limiter;                                 \
    std::uint64_t msb_suppressed = 0;                                     \
    if (::msb::log_enabled(level) && msb_limiter.allow(msb_suppressed)) { \
      if (msb_suppressed != 0)                                            \
        ::msb::log_line(level, "(%llu similar lines left out)",           \
                        static_cast<unsigned long long>(msb_suppressed)); \
      ::msb::log_line(level, __VA_ARGS__);                                \
    }                                                                     \
  } while (false)
