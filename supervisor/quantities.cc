// SPDX-License-Identifier: Apache-2.0
#include "supervisor/quantities.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdio>
#include <ctime>

#include "supervisor/grammar_text.h"

namespace msb::supervisor {
namespace {

constexpr std::uint64_t kMaxSizeBytes = std::uint64_t{1} << 50;
constexpr std::int64_t kMaxDurationMs = std::int64_t{10} * 365 * 24 * 3600 * 1000;  // 10 years
__extension__ using Wide = unsigned __int128;
constexpr std::int64_t kNsPerSecond = 1'000'000'000;

// A decimal number with an optional fraction of at most nine digits, taken from the front of `text`.
struct Decimal {
  std::uint64_t whole = 0;
  std::uint64_t fraction = 0;  // in units of 10^-digits
  int digits = 0;
};
std::optional<Decimal> take_decimal(std::string_view& text) {
  Decimal out;
  std::size_t at = 0;
  while (at < text.size() && is_digit(text[at])) ++at;
  if (at == 0 || at > 15) return std::nullopt;
  const auto whole = parse_decimal(text.substr(0, at));
  if (!whole) return std::nullopt;
  out.whole = *whole;
  text.remove_prefix(at);
  if (!text.empty() && text.front() == '.') {
    text.remove_prefix(1);
    std::size_t length = 0;
    while (length < text.size() && is_digit(text[length])) ++length;
    if (length == 0 || length > 9) return std::nullopt;
    out.fraction = *parse_decimal(text.substr(0, length));
    out.digits = static_cast<int>(length);
    text.remove_prefix(length);
  }
  return out;
}

// whole.fraction * unit, rounded up; nullopt when it does not fit.
std::optional<std::uint64_t> scale_up(const Decimal& value, std::uint64_t unit) {
  std::uint64_t power = 1;
  for (int i = 0; i < value.digits; ++i) power *= 10;
  const auto total = (static_cast<Wide>(value.whole) * power + value.fraction) * unit;
  const auto rounded = (total + power - 1) / power;
  if (rounded > UINT64_MAX) return std::nullopt;
  return static_cast<std::uint64_t>(rounded);
}

// Bytes that a size suffix stands for; nullopt for what is none. `bare` is what no suffix means.
std::optional<std::uint64_t> size_unit(std::string_view suffix, std::uint64_t bare) {
  const std::string s = lower(suffix);
  if (s.empty()) return bare;
  if (s == "b") return 1;
  constexpr std::string_view kLetters = "kmgt";
  const auto index = kLetters.find(s[0]);
  if (index == std::string_view::npos) return std::nullopt;
  const std::string_view rest = std::string_view(s).substr(1);
  if (!rest.empty() && rest != "b" && rest != "i" && rest != "ib") return std::nullopt;
  return std::uint64_t{1} << (10 * (index + 1));
}

Result<std::uint64_t> parse_size(std::string_view text, std::uint64_t bare, std::string_view wanted) {
  const auto bytes = parse_amount_bytes(text, bare);
  if (!bytes || *bytes > kMaxSizeBytes) return invalid("size", text, wanted);
  if (*bytes == 0) return invalid("size", text, "must be more than 0");
  return *bytes;
}

// Days since 1970-01-01 of a civil date (proleptic Gregorian).
std::int64_t days_from_civil(std::int64_t y, unsigned m, unsigned d) {
  y -= m <= 2;
  const std::int64_t era = (y >= 0 ? y : y - 399) / 400;
  const auto yoe = static_cast<unsigned>(y - era * 400);
  const unsigned doy = (153 * (m > 2 ? m - 3 : m + 9) + 2) / 5 + d - 1;
  const unsigned doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;
  return era * 146097 + static_cast<std::int64_t>(doe) - 719468;
}

std::optional<unsigned> take_digits(std::string_view& text, std::size_t count) {
  if (text.size() < count) return std::nullopt;
  const auto value = parse_decimal(text.substr(0, count));
  if (!value) return std::nullopt;
  text.remove_prefix(count);
  return static_cast<unsigned>(*value);
}
bool take_char(std::string_view& text, char wanted) {
  if (text.empty() || text.front() != wanted) return false;
  text.remove_prefix(1);
  return true;
}

std::optional<std::int64_t> parse_rfc3339(std::string_view text) {
  const auto year = take_digits(text, 4);
  if (!year || *year < 1970 || *year > 2261 || !take_char(text, '-')) return std::nullopt;
  const auto month = take_digits(text, 2);
  if (!month || *month < 1 || *month > 12 || !take_char(text, '-')) return std::nullopt;
  const auto day = take_digits(text, 2);
  const bool leap = (*year % 4 == 0 && *year % 100 != 0) || *year % 400 == 0;
  constexpr std::array<unsigned, 12> kDays = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
  const unsigned days = kDays[*month - 1] + (leap && *month == 2 ? 1U : 0U);
  if (!day || *day < 1 || *day > days || text.empty()) return std::nullopt;
  const char separator = lower(text.front());
  if (separator != 't' && separator != ' ') return std::nullopt;
  text.remove_prefix(1);
  const auto hour = take_digits(text, 2);
  if (!hour || *hour > 23 || !take_char(text, ':')) return std::nullopt;
  const auto minute = take_digits(text, 2);
  if (!minute || *minute > 59 || !take_char(text, ':')) return std::nullopt;
  const auto second = take_digits(text, 2);
  if (!second || *second > 60) return std::nullopt;
  std::int64_t nanos = 0;
  if (take_char(text, '.')) {
    std::size_t length = 0;
    while (length < text.size() && is_digit(text[length])) ++length;
    if (length == 0 || length > 9) return std::nullopt;
    nanos = static_cast<std::int64_t>(*parse_decimal(text.substr(0, length)));
    for (std::size_t i = length; i < 9; ++i) nanos *= 10;
    text.remove_prefix(length);
  }
  std::int64_t offset = 0;
  if (text == "Z" || text == "z") {
    text = {};
  } else if (!text.empty() && (text.front() == '+' || text.front() == '-')) {
    const int sign = text.front() == '+' ? 1 : -1;
    text.remove_prefix(1);
    const auto hours = take_digits(text, 2);
    if (!hours || *hours > 23 || !take_char(text, ':')) return std::nullopt;
    const auto minutes = take_digits(text, 2);
    if (!minutes || *minutes > 59) return std::nullopt;
    offset = sign * static_cast<std::int64_t>(*hours * 3600 + *minutes * 60);
  } else {
    return std::nullopt;
  }
  if (!text.empty()) return std::nullopt;
  const std::int64_t seconds =
      days_from_civil(*year, *month, *day) * 86400 + *hour * 3600 + *minute * 60 + *second - offset;
  return seconds * kNsPerSecond + nanos;
}

}  // namespace

std::optional<std::uint64_t> parse_decimal(std::string_view text) {
  if (text.empty() || !is_digit(text.front())) return std::nullopt;
  std::uint64_t value = 0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (code != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::optional<std::uint64_t> parse_amount_bytes(std::string_view text, std::uint64_t bare) {
  const auto value = take_decimal(text);
  const auto unit = value ? size_unit(text, bare) : std::nullopt;
  return unit ? scale_up(*value, *unit) : std::nullopt;
}

Result<std::uint64_t> parse_size_mib(std::string_view text) {
  constexpr std::uint64_t kMib = std::uint64_t{1} << 20;
  MSB_ASSIGN(
      const std::uint64_t bytes,
      parse_size(text, kMib,
                 "expected a size such as 512M, 1.5G or 64GiB (a bare number counts MiB), at most 1024T"));
  return (bytes + kMib - 1) / kMib;
}

Result<std::uint64_t> parse_size_bytes(std::string_view text) {
  return parse_size(
      text, 1, "expected a size such as 512K, 1.5M or 64GiB (a bare number counts bytes), at most 1024T");
}

Result<std::uint64_t> parse_rate(std::string_view text) {
  const auto slash = text.find('/');
  MSB_ASSIGN(const std::uint64_t amount, parse_size_bytes(text.substr(0, slash)));
  if (slash == std::string_view::npos) return amount;
  std::string time(text.substr(slash + 1));
  if (!time.empty() && is_alpha(time.front())) time.insert(0, "1");  // "/s" is one of it
  MSB_ASSIGN(const std::int64_t ms, parse_duration_ms(time));
  if (ms <= 0) return invalid("rate", text, "the time must be more than 0");
  // Below 2^50 and at most ten years: neither product overflows 128 bits, and the quotient is rounded up
  // to 1.
  const auto per_second = static_cast<Wide>(amount) * 1000 / static_cast<std::uint64_t>(ms);
  return std::max<std::uint64_t>(static_cast<std::uint64_t>(per_second), 1);
}

std::string format_size_mib(std::uint64_t mib) {
  if (mib != 0 && mib % (1 << 20) == 0) return std::to_string(mib >> 20) + "T";
  if (mib != 0 && mib % 1024 == 0) return std::to_string(mib >> 10) + "G";
  return std::to_string(mib) + "M";
}

Result<std::int64_t> parse_duration_ms(std::string_view text) {
  constexpr std::string_view kWanted =
      "expected a duration such as 90s, 250ms, 1h30m or 2d (a bare number counts seconds)";
  struct Unit {
    std::string_view name;
    std::uint64_t ms;
  };
  constexpr std::array<Unit, 6> kUnits = {
      {{"w", 604'800'000}, {"d", 86'400'000}, {"h", 3'600'000}, {"m", 60'000}, {"s", 1000}, {"ms", 1}}};
  std::string_view rest = text;
  std::uint64_t total = 0;
  std::size_t next_unit = 0;
  bool first = true;
  while (first || !rest.empty()) {
    const auto value = take_decimal(rest);
    if (!value) return invalid("duration", text, kWanted);
    std::size_t length = 0;
    while (length < rest.size() && is_alpha(rest[length])) ++length;
    const std::string name = lower(rest.substr(0, length));
    rest.remove_prefix(length);
    std::size_t index = next_unit;
    if (name.empty()) {
      if (!first || !rest.empty()) return invalid("duration", text, kWanted);
      index = 4;
    } else {
      while (index < kUnits.size() && kUnits[index].name != name) ++index;
    }
    if (index >= kUnits.size() || (value->digits != 0 && !rest.empty()))
      return invalid("duration", text, kWanted);
    const auto ms = scale_up(*value, kUnits[index].ms);
    if (!ms || *ms > static_cast<std::uint64_t>(kMaxDurationMs) - total) {
      return invalid("duration", text, "at most ten years are possible");
    }
    total += *ms;
    next_unit = index + 1;
    first = false;
  }
  return static_cast<std::int64_t>(total);
}

std::string format_duration_ms(std::int64_t ms) {
  if (ms == 0) return "0s";
  std::string out;
  const auto put = [&](std::int64_t unit, const char* name) {
    if (ms >= unit) {
      out += std::to_string(ms / unit);
      out += name;
      ms %= unit;
    }
  };
  put(86'400'000, "d");
  put(3'600'000, "h");
  put(60'000, "m");
  put(1000, "s");
  put(1, "ms");
  return out;
}

Result<std::int64_t> parse_moment_ns(std::string_view text, std::int64_t now_ns) {
  if (const auto moment = parse_rfc3339(text)) return *moment;
  const auto ago = parse_duration_ms(text);
  if (!ago.ok())
    return invalid("time", text, "expected RFC 3339 (2026-05-01T10:00:00Z) or how long ago (10m, 2h)");
  return now_ns - *ago * 1'000'000;
}

std::string format_rfc3339(std::int64_t wall_ns, int digits) {
  std::int64_t seconds = wall_ns / kNsPerSecond;
  std::int64_t nanos = wall_ns % kNsPerSecond;
  if (nanos < 0) {
    nanos += kNsPerSecond;
    --seconds;
  }
  const std::time_t time = seconds;
  std::tm tm{};
  ::gmtime_r(&time, &tm);
  std::array<char, 64> buffer{};
  std::size_t length = std::strftime(buffer.data(), buffer.size(), "%Y-%m-%dT%H:%M:%S", &tm);
  std::string out(buffer.data(), length);
  if (digits > 0) {
    length = static_cast<std::size_t>(
        std::snprintf(buffer.data(), buffer.size(), ".%09lld", static_cast<long long>(nanos)));
    out.append(buffer.data(), std::min(length, static_cast<std::size_t>(digits) + 1));
  }
  out += 'Z';
  return out;
}

}  // namespace msb::supervisor
