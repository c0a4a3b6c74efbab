// SPDX-License-Identifier: Apache-2.0
#include "supervisor/grammar.h"

#include <arpa/inet.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <csignal>
#include <cstdio>
#include <ctime>

namespace msb::supervisor {
namespace {

constexpr std::uint64_t kMaxSizeMib = std::uint64_t{1} << 30;                       // 1 PiB
constexpr std::int64_t kMaxDurationMs = std::int64_t{10} * 365 * 24 * 3600 * 1000;  // 10 years
__extension__ using Wide = unsigned __int128;
constexpr std::int64_t kNsPerSecond = 1'000'000'000;

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_alpha(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool is_alnum(char c) { return is_digit(c) || is_alpha(c); }
char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = lower(c);
  return out;
}

Error invalid(std::string_view what, std::string_view given, std::string_view wanted) {
  std::string text = "invalid ";
  text += what;
  text += " \"";
  text += given;
  text += "\": ";
  text += wanted;
  return Error{Errc::kInvalid, 0, std::move(text)};
}

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

constexpr std::array<std::string_view, 16> kRlimitNames = {
    "cpu",     "fsize", "data",  "stack",      "core",     "rss",  "nproc",  "nofile",
    "memlock", "as",    "locks", "sigpending", "msgqueue", "nice", "rtprio", "rttime"};

struct SignalName {
  std::string_view name;
  int number;
};
constexpr std::array<SignalName, 31> kSignals = {
    {{"HUP", SIGHUP},       {"INT", SIGINT},   {"QUIT", SIGQUIT},   {"ILL", SIGILL},   {"TRAP", SIGTRAP},
     {"ABRT", SIGABRT},     {"BUS", SIGBUS},   {"FPE", SIGFPE},     {"KILL", SIGKILL}, {"USR1", SIGUSR1},
     {"SEGV", SIGSEGV},     {"USR2", SIGUSR2}, {"PIPE", SIGPIPE},   {"ALRM", SIGALRM}, {"TERM", SIGTERM},
     {"STKFLT", SIGSTKFLT}, {"CHLD", SIGCHLD}, {"CONT", SIGCONT},   {"STOP", SIGSTOP}, {"TSTP", SIGTSTP},
     {"TTIN", SIGTTIN},     {"TTOU", SIGTTOU}, {"URG", SIGURG},     {"XCPU", SIGXCPU}, {"XFSZ", SIGXFSZ},
     {"VTALRM", SIGVTALRM}, {"PROF", SIGPROF}, {"WINCH", SIGWINCH}, {"IO", SIGIO},     {"PWR", SIGPWR},
     {"SYS", SIGSYS}}};
constexpr int kSigRtMin = 34;  // of the guest's C library; the kernel's own first is 32
constexpr int kSigRtMax = 64;

std::optional<std::uint16_t> parse_port_number(std::string_view text) {
  const auto number = parse_decimal(text);
  if (!number || *number > 65535) return std::nullopt;
  return static_cast<std::uint16_t>(*number);
}

Status parse_mount_options(std::string_view text, std::string_view whole, Mount& mount) {
  while (!text.empty()) {
    const auto comma = text.find(',');
    const std::string_view option = text.substr(0, comma);
    text = comma == std::string_view::npos ? std::string_view{} : text.substr(comma + 1);
    if (option == "ro" || option == "readonly") {
      mount.readonly = true;
    } else if (option == "rw") {
      if (mount.readonly) return invalid("mount", whole, "ro and rw contradict each other");
    } else if (option == "noexec") {
      mount.noexec = true;
    } else if (option == "nosuid") {
      mount.nosuid = true;
    } else if (option == "nodev") {
      mount.nodev = true;
    } else if (option.starts_with("size=") && mount.kind == Mount::Kind::kTmpfs) {
      MSB_ASSIGN(mount.size_mib, parse_size_mib(option.substr(5)));
    } else {
      return invalid("mount", whole,
                     "unknown option \"" + std::string(option) + "\" (ro, rw, noexec, nosuid, nodev)");
    }
  }
  return {};
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

Result<std::uint64_t> parse_size_mib(std::string_view text) {
  constexpr std::string_view kWanted =
      "expected a size such as 512M, 1.5G or 64GiB (a bare number counts MiB)";
  std::string_view rest = text;
  const auto value = take_decimal(rest);
  if (!value) return invalid("size", text, kWanted);
  const auto unit = size_unit(rest, std::uint64_t{1} << 20);
  if (!unit) return invalid("size", text, kWanted);
  const auto bytes = scale_up(*value, *unit);
  if (!bytes || *bytes > kMaxSizeMib << 20) return invalid("size", text, "at most 1024T is possible");
  if (*bytes == 0) return invalid("size", text, "must be more than 0");
  return (*bytes + (std::uint64_t{1} << 20) - 1) >> 20;
}

Result<std::uint64_t> parse_size_bytes(std::string_view text) {
  constexpr std::string_view kWanted =
      "expected a size such as 512K, 1.5M or 64GiB (a bare number counts bytes)";
  std::string_view rest = text;
  const auto value = take_decimal(rest);
  if (!value) return invalid("size", text, kWanted);
  const auto unit = size_unit(rest, 1);
  if (!unit) return invalid("size", text, kWanted);
  const auto bytes = scale_up(*value, *unit);
  if (!bytes || *bytes > kMaxSizeMib << 20) return invalid("size", text, "at most 1024T is possible");
  if (*bytes == 0) return invalid("size", text, "must be more than 0");
  return *bytes;
}

Result<std::uint64_t> parse_rate(std::string_view text) {
  const auto slash = text.find('/');
  MSB_ASSIGN(const std::uint64_t amount, parse_size_bytes(text.substr(0, slash)));
  if (slash == std::string_view::npos) return amount;
  MSB_ASSIGN(const std::int64_t ms, parse_duration_ms(text.substr(slash + 1)));
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

Result<std::string> parse_env(std::string_view text, GetEnv getenv_fn) {
  const auto equals = text.find('=');
  const std::string_view key = text.substr(0, equals);
  if (key.empty()) return invalid("environment variable", text, "expected KEY=VALUE or KEY");
  if (text.find('\0') != std::string_view::npos)
    return invalid("environment variable", key, "contains a NUL byte");
  if (equals != std::string_view::npos) return std::string(text);
  const char* value = getenv_fn != nullptr ? getenv_fn(std::string(key).c_str()) : nullptr;
  if (value == nullptr) {
    return invalid("environment variable", key, "it is not set here; use " + std::string(key) + "=VALUE");
  }
  return std::string(key) + "=" + value;
}

Result<std::vector<std::string>> parse_env_file(std::string_view text, GetEnv getenv_fn) {
  std::vector<std::string> out;
  std::size_t line_number = 0;
  while (!text.empty()) {
    const auto newline = text.find('\n');
    std::string_view line = text.substr(0, newline);
    text = newline == std::string_view::npos ? std::string_view{} : text.substr(newline + 1);
    ++line_number;
    if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
    const auto first = line.find_first_not_of(" \t");
    if (first == std::string_view::npos || line[first] == '#') continue;
    line.remove_prefix(first);
    auto entry = parse_env(line, getenv_fn);
    if (!entry.ok()) return std::move(entry).error().with_context("line " + std::to_string(line_number));
    out.push_back(std::move(entry).value());
  }
  return out;
}

Result<Label> parse_label(std::string_view text) {
  const auto equals = text.find('=');
  Label label{std::string(text.substr(0, equals)),
              equals == std::string_view::npos ? std::string{} : std::string(text.substr(equals + 1))};
  if (label.key.empty()) return invalid("label", text, "expected KEY=VALUE or KEY");
  for (const std::string_view prefix : {"msb.", "sandbox."}) {
    if (label.key.starts_with(prefix)) {
      return invalid("label", text, "keys that start with \"" + std::string(prefix) + "\" are reserved");
    }
  }
  for (const char c : text) {
    if (static_cast<unsigned char>(c) < 0x20)
      return invalid("label", label.key, "contains a control character");
  }
  return label;
}

Result<Rlimit> parse_rlimit(std::string_view text) {
  constexpr std::string_view kWanted =
      "expected NAME=SOFT[:HARD], such as nofile=1024:65536 or memlock=unlimited";
  const auto equals = text.find('=');
  if (equals == std::string_view::npos) return invalid("resource limit", text, kWanted);
  Rlimit limit;
  limit.resource = lower(text.substr(0, equals));
  if (limit.resource.starts_with("rlimit_")) limit.resource.erase(0, 7);
  if (std::find(kRlimitNames.begin(), kRlimitNames.end(), limit.resource) == kRlimitNames.end()) {
    std::string names;
    for (const std::string_view name : kRlimitNames) names += (names.empty() ? "" : ", ") + std::string(name);
    return invalid("resource limit", text, "unknown name \"" + limit.resource + "\" (" + names + ")");
  }
  const auto value = [](std::string_view word) -> std::optional<std::uint64_t> {
    const std::string w = lower(word);
    if (w == "unlimited" || w == "infinity" || w == "-1") return kRlimitUnlimited;
    std::string_view rest = w;
    const auto number = take_decimal(rest);
    if (!number) return std::nullopt;
    const auto unit = size_unit(rest, 1);
    return unit ? scale_up(*number, *unit) : std::nullopt;
  };
  const std::string_view values = text.substr(equals + 1);
  const auto colon = values.find(':');
  const auto soft = value(values.substr(0, colon));
  const auto hard = colon == std::string_view::npos ? soft : value(values.substr(colon + 1));
  if (!soft || !hard) return invalid("resource limit", text, kWanted);
  if (*soft > *hard) return invalid("resource limit", text, "the soft limit is above the hard limit");
  limit.soft = *soft;
  limit.hard = *hard;
  return limit;
}

Result<PortMapping> parse_port(std::string_view text) {
  constexpr std::string_view kWanted =
      "expected [BIND:]HOST:GUEST[/tcp|/udp], such as 8080:80 or 0.0.0.0:53:53/udp";
  PortMapping port;
  std::string_view rest = text;
  if (const auto slash = rest.rfind('/'); slash != std::string_view::npos) {
    const std::string protocol = lower(rest.substr(slash + 1));
    if (protocol != "tcp" && protocol != "udp") return invalid("port", text, kWanted);
    port.udp = protocol == "udp";
    rest = rest.substr(0, slash);
  }
  const auto last = rest.rfind(':');
  const auto guest = parse_port_number(last == std::string_view::npos ? rest : rest.substr(last + 1));
  if (!guest || *guest == 0) return invalid("port", text, kWanted);
  port.guest = *guest;
  if (last == std::string_view::npos) return port;
  rest = rest.substr(0, last);
  const auto before = rest.rfind(':');
  const auto host = parse_port_number(before == std::string_view::npos ? rest : rest.substr(before + 1));
  if (!host) return invalid("port", text, kWanted);
  port.host = *host;
  if (before == std::string_view::npos) return port;
  std::string bind(rest.substr(0, before));
  if (bind.size() > 2 && bind.front() == '[' && bind.back() == ']') bind = bind.substr(1, bind.size() - 2);
  std::array<unsigned char, 16> raw{};
  if (::inet_pton(AF_INET, bind.c_str(), raw.data()) != 1 &&
      ::inet_pton(AF_INET6, bind.c_str(), raw.data()) != 1) {
    return invalid("port", text, "\"" + bind + "\" is not an IP address");
  }
  port.bind = std::move(bind);
  return port;
}

std::string format_port(const PortMapping& port) {
  const bool v6 = port.bind.find(':') != std::string::npos;
  return (v6 ? "[" + port.bind + "]" : port.bind) + ":" + std::to_string(port.host) + ":" +
         std::to_string(port.guest) + (port.udp ? "/udp" : "");
}

Result<HostSocket> parse_host_socket(std::string_view text) {
  constexpr std::string_view kStream = "/stream";
  std::string_view rest = text;
  if (rest.ends_with("/dgram")) return invalid("vsock", text, "datagrams are not supported");
  if (rest.ends_with(kStream)) rest.remove_suffix(kStream.size());
  const auto colon = rest.rfind(':');
  if (colon == std::string_view::npos || colon == 0 || rest[colon - 1] == '/')
    return invalid("vsock", text, "expected PATH:PORT, such as /run/agent.sock:5000");
  const auto port = parse_decimal(rest.substr(colon + 1));
  if (!port || *port < 2 || *port >= UINT32_MAX)
    return invalid("vsock", text, "the port must be 2 to 4294967294");
  return HostSocket{std::string(rest.substr(0, colon)), static_cast<std::uint32_t>(*port)};
}

std::string format_host_socket(const HostSocket& socket) {
  return socket.path + ":" + std::to_string(socket.port);
}

Result<Mount> parse_tmpfs(std::string_view text) {
  Mount mount;
  const auto colon = text.find(':');
  mount.target = std::string(text.substr(0, colon));
  MSB_TRY(check_guest_path(mount.target));
  if (colon == std::string_view::npos) return mount;
  std::string_view rest = text.substr(colon + 1);
  const auto separator = rest.find_first_of(":,");
  const std::string_view first = rest.substr(0, separator);
  if (!first.empty() && is_digit(first.front())) {
    MSB_ASSIGN(mount.size_mib, parse_size_mib(first));
    rest = separator == std::string_view::npos ? std::string_view{} : rest.substr(separator + 1);
  }
  MSB_TRY(parse_mount_options(rest, text, mount));
  return mount;
}

Result<Mount> parse_volume(std::string_view text) {
  Mount mount;
  const auto colon = text.find(':');
  if (colon == std::string_view::npos || colon == 0)
    return invalid("volume", text, "expected SRC:DST[:OPTIONS]");
  mount.source = std::string(text.substr(0, colon));
  const bool path = mount.source.front() == '.' || mount.source.front() == '/';
  mount.kind = path ? Mount::Kind::kBind : Mount::Kind::kVolume;
  if (!path) MSB_TRY(check_name(mount.source));
  const std::string_view rest = text.substr(colon + 1);
  const auto next = rest.find(':');
  mount.target = std::string(rest.substr(0, next));
  MSB_TRY(check_guest_path(mount.target));
  if (next != std::string_view::npos) MSB_TRY(parse_mount_options(rest.substr(next + 1), text, mount));
  return mount;
}

Result<RootDisk> parse_root_disk(std::string_view text) {
  RootDisk disk;
  if (text == "tmpfs" || text.starts_with("tmpfs:")) {
    disk.kind = RootDisk::Kind::kTmpfs;
    disk.size_mib = 0;
    if (text.size() > 6) {
      MSB_ASSIGN(disk.size_mib, parse_size_mib(text.substr(6)));
    }
    return disk;
  }
  MSB_ASSIGN(disk.size_mib, parse_size_mib(text));
  return disk;
}

Status check_name(std::string_view name) {
  if (name.empty() || name.size() > 128) return invalid("name", name, "must have 1 to 128 characters");
  if (!is_alnum(name.front())) return invalid("name", name, "must start with a letter or digit");
  for (const char c : name) {
    if (!is_alnum(c) && c != '.' && c != '_' && c != '-') {
      return invalid("name", name, "only letters, digits, '.', '_' and '-' are allowed");
    }
  }
  return {};
}

Status check_hostname(std::string_view name) {
  if (name.empty() || name.size() > 64) return invalid("host name", name, "must have 1 to 64 characters");
  for (const char c : name) {
    if (!is_alnum(c) && c != '-' && c != '.') {
      return invalid("host name", name, "only letters, digits, '-' and '.' are allowed");
    }
  }
  if (!is_alnum(name.front()) || !is_alnum(name.back())) {
    return invalid("host name", name, "must start and end with a letter or digit");
  }
  return {};
}

Status check_user(std::string_view user) {
  const auto colon = user.find(':');
  const std::string_view group = colon == std::string_view::npos ? "x" : user.substr(colon + 1);
  if (colon == 0 || user.empty() || group.empty() || group.find(':') != std::string_view::npos ||
      user.size() > 256) {
    return invalid("user", user, "expected NAME, UID, NAME:GROUP or UID:GID");
  }
  for (const char c : user) {
    if (static_cast<unsigned char>(c) <= 0x20 || c == 0x7f) return invalid("user", user, "contains a blank");
  }
  return {};
}

Status check_guest_path(std::string_view path) {
  if (path.empty() || path.front() != '/') return invalid("guest path", path, "must start with /");
  if (path.size() > 4095) return invalid("guest path", path.substr(0, 64), "longer than 4095 bytes");
  if (path.find('\0') != std::string_view::npos) return invalid("guest path", "", "contains a NUL byte");
  std::string_view rest = path;
  while (!rest.empty()) {
    const auto slash = rest.find('/');
    if (rest.substr(0, slash) == "..") return invalid("guest path", path, "must not contain \"..\"");
    rest = slash == std::string_view::npos ? std::string_view{} : rest.substr(slash + 1);
  }
  return {};
}

Result<int> parse_signal(std::string_view text) {
  if (const auto number = parse_decimal(text)) {
    if (*number >= 1 && *number <= kSigRtMax) return static_cast<int>(*number);
    return invalid("signal", text, "expected a name such as SIGTERM or a number from 1 to 64");
  }
  std::string name(text);
  for (char& c : name) c = c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
  if (name.starts_with("SIG")) name.erase(0, 3);
  for (const SignalName& signal : kSignals) {
    if (signal.name == name) return signal.number;
  }
  if (name == "POLL") return SIGIO;
  if (name == "RTMIN") return kSigRtMin;
  if (name == "RTMAX") return kSigRtMax;
  const auto offset = [&](std::string_view prefix) -> std::optional<int> {
    if (!std::string_view(name).starts_with(prefix)) return std::nullopt;
    const auto value = parse_decimal(std::string_view(name).substr(prefix.size()));
    if (!value || *value > 30) return std::nullopt;
    return static_cast<int>(*value);
  };
  if (const auto up = offset("RTMIN+")) return kSigRtMin + *up;
  if (const auto down = offset("RTMAX-")) return kSigRtMax - *down;
  return invalid("signal", text, "expected a name such as SIGTERM or a number from 1 to 64");
}

std::string signal_name(int number) {
  for (const SignalName& signal : kSignals) {
    if (signal.number == number) return "SIG" + std::string(signal.name);
  }
  if (number >= kSigRtMin && number <= kSigRtMax) return "SIGRTMIN+" + std::to_string(number - kSigRtMin);
  return "signal " + std::to_string(number);
}

Result<std::string> parse_detach_keys(std::string_view text) {
  std::string keys;
  while (!text.empty()) {
    const auto comma = text.find(',', 1);
    const std::string_view part = text.substr(0, comma);
    text = comma == std::string_view::npos ? std::string_view{} : text.substr(comma + 1);
    if (part.size() == 1) {
      keys += part.front();
    } else if (part.size() == 6 && part.starts_with("ctrl-")) {
      const char key = lower(part.back());
      if (key >= 'a' && key <= 'z') {
        keys += static_cast<char>(key - 'a' + 1);
      } else if (key == '@') {
        keys += '\0';
      } else if (const auto index = std::string_view("[\\]^_").find(key); index != std::string_view::npos) {
        keys += static_cast<char>(27 + index);
      } else {
        return invalid("detach keys", part, "ctrl- takes a letter or one of @ [ \\ ] ^ _");
      }
    } else {
      return invalid("detach keys", part, "expected single characters or ctrl-X, separated by commas");
    }
  }
  if (keys.size() > 8) return invalid("detach keys", "", "at most 8 keys are possible");
  return keys;
}

Result<Script> parse_script(std::string_view text, bool escapes) {
  const auto equals = text.find('=');
  if (equals == std::string_view::npos || equals == 0) return invalid("script", text, "expected NAME=BODY");
  Script script{std::string(text.substr(0, equals)), {}};
  MSB_TRY(check_name(script.name));
  std::string_view body = text.substr(equals + 1);
  for (std::size_t i = 0; i < body.size(); ++i) {
    constexpr std::string_view kFrom = "ntr\\\"'";
    constexpr std::string_view kTo = "\n\t\r\\\"'";
    if (escapes && body[i] == '\\' && i + 1 < body.size()) {
      const auto index = kFrom.find(body[i + 1]);
      if (index != std::string_view::npos) {
        script.body += kTo[index];
        ++i;
        continue;
      }
    }
    script.body += body[i];
  }
  return script;
}

bool looks_like_path(std::string_view text) {
  return text == "." || text == ".." || text.starts_with("/") || text.starts_with("./") ||
         text.starts_with("../");
}

}  // namespace msb::supervisor
