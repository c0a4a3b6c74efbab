// SPDX-License-Identifier: Apache-2.0
#include "supervisor/names.h"

#include <array>
#include <csignal>
#include <optional>

#include "supervisor/grammar_text.h"
#include "supervisor/quantities.h"

namespace msb::supervisor {
namespace {

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

}  // namespace

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

bool looks_like_path(std::string_view text) {
  return text == "." || text == ".." || text.starts_with("/") || text.starts_with("./") ||
         text.starts_with("../");
}

}  // namespace msb::supervisor
