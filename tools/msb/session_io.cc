// SPDX-License-Identifier: Apache-2.0
#include "tools/msb/session_io.h"

#include <limits.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>

#include "base/unique_fd.h"
#include "tools/msb/cli.h"

namespace msb::cli {
namespace {

using supervisor::ExecEvent;
using supervisor::ExecSession;

constexpr std::array<int, 7> kForwarded = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGWINCH};
constexpr int kInterruptsToGiveUp = 3;
constexpr std::size_t kReadBytes = std::size_t{64} << 10;

sigset_t forwarded_set() {
  sigset_t set;
  ::sigemptyset(&set);
  for (const int signal : kForwarded) ::sigaddset(&set, signal);
  return set;
}

class RawTerminal {
 public:
  RawTerminal() = default;
  RawTerminal(const RawTerminal&) = delete;
  RawTerminal& operator=(const RawTerminal&) = delete;
  ~RawTerminal() { restore(); }
  void enter() {
    if (::tcgetattr(STDIN_FILENO, &saved_) != 0) return;
    termios raw = saved_;
    ::cfmakeraw(&raw);
    active_ = ::tcsetattr(STDIN_FILENO, TCSADRAIN, &raw) == 0;
  }
  void restore() {
    if (active_) ::tcsetattr(STDIN_FILENO, TCSADRAIN, &saved_);
    active_ = false;
  }
  [[nodiscard]] bool active() const { return active_; }

 private:
  termios saved_{};
  bool active_ = false;
};

// Takes the detach keys out of typed input.
class DetachMatcher {
 public:
  explicit DetachMatcher(std::string keys) : keys_(std::move(keys)) {}
  // Appends what is not part of the sequence to `out`; true once it was typed whole.
  bool feed(std::string_view typed, std::string& out) {
    if (keys_.empty()) {
      out += typed;
      return false;
    }
    for (const char c : typed) {
      if (c == keys_[matched_]) {
        if (++matched_ == keys_.size()) return true;
        continue;
      }
      // What was held back was no sequence; this key may begin one.
      out.append(keys_, 0, matched_);
      matched_ = 0;
      if (c == keys_.front()) {
        matched_ = 1;
      } else {
        out += c;
      }
    }
    return false;
  }
  // Bytes that the next feed() may give out on top of what it is fed.
  [[nodiscard]] std::size_t held_back() const { return matched_; }

 private:
  std::string keys_;
  std::size_t matched_ = 0;
};

supervisor::TerminalSize terminal_size() {
  winsize size{};
  for (const int fd : {STDOUT_FILENO, STDIN_FILENO, STDERR_FILENO}) {
    if (::ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_row != 0 && size.ws_col != 0)
      return {size.ws_row, size.ws_col};
  }
  return {};
}

bool is_regular(int fd) {
  struct stat info {};
  return ::fstat(fd, &info) == 0 && S_ISREG(info.st_mode);
}

class Pump {
 public:
  Pump(ExecSession& session, const SessionIo& io, UniqueFd signals)
      : session_(session), io_(io), signals_(std::move(signals)), detach_(io.detach_keys) {
    regular_[0] = is_regular(STDOUT_FILENO);
    regular_[1] = is_regular(STDERR_FILENO);
    stdin_open_ = io.use_stdin;
  }

  Result<SessionEnd> run() {
    if (io_.tty) raw_.enter();
    for (;;) {
      if (pending_.empty()) {
        MSB_ASSIGN(const bool over, take_events());
        if (over) return end_;
      }
      MSB_ASSIGN(const bool left, turn());
      if (left) return end_;
    }
  }

 private:
  // Events up to the next output; true at the end.
  Result<bool> take_events() {
    for (;;) {
      auto event = session_.next_event();
      if (!event.ok()) {
        raw_.restore();
        return std::move(event).error();
      }
      if (!event->has_value()) return false;
      switch ((*event)->kind) {
        case ExecEvent::Kind::kStarted:
          end_.session = (*event)->session;
          break;
        case ExecEvent::Kind::kStdout:
        case ExecEvent::Kind::kStderr:
          pending_ = (*event)->data;
          target_ = (*event)->kind == ExecEvent::Kind::kStdout ? STDOUT_FILENO : STDERR_FILENO;
          if (!pending_.empty()) return false;
          break;
        case ExecEvent::Kind::kExit:
          end_.kind = SessionEnd::Kind::kExit;
          end_.exit = (*event)->exit;
          return true;
        case ExecEvent::Kind::kFailure:
          end_.kind = SessionEnd::Kind::kFailure;
          end_.failure = std::move((*event)->failure);
          return true;
      }
    }
  }

  // One poll and what it brought; true: leave with end_.
  Result<bool> turn() {
    std::array<pollfd, 4> fds{};
    const auto wanted = session_.wanted_events();
    fds[0] = {session_.fd(), static_cast<short>(pending_.empty() ? wanted : wanted & ~POLLIN), 0};
    fds[1] = {signals_.get(), POLLIN, 0};
    fds[2] = {stdin_open_ && session_.stdin_room() > detach_.held_back() ? STDIN_FILENO : -1, POLLIN, 0};
    fds[3] = {pending_.empty() ? -1 : target_, POLLOUT, 0};
    if (::poll(fds.data(), fds.size(), -1) < 0) {
      if (errno == EINTR) return false;
      return sys_error("wait for input and output");
    }
    if ((fds[1].revents & POLLIN) != 0) {
      MSB_ASSIGN(const bool left, take_signals());
      if (left) return true;
    }
    if (fds[3].revents != 0) {
      MSB_ASSIGN(const bool heard, write_pending());
      if (!heard) {
        end_.kind = SessionEnd::Kind::kOutputGone;
        return true;
      }
    }
    if (fds[2].revents != 0) {
      MSB_ASSIGN(const bool left, read_input());
      if (left) return true;
    }
    // A socket that cannot be sent to may still hold output and the exit: take_events says when it is over.
    if ((fds[0].revents & POLLOUT) != 0) (void)session_.write_stdin({}).ok();
    return false;
  }

  // False when the reader has gone.
  Result<bool> write_pending() {
    const bool regular = regular_[target_ == STDOUT_FILENO ? 0 : 1];
    const std::size_t length = regular ? pending_.size() : std::min<std::size_t>(pending_.size(), PIPE_BUF);
    const ssize_t n = ::write(target_, pending_.data(), length);
    if (n >= 0) {
      pending_.remove_prefix(static_cast<std::size_t>(n));
      return true;
    }
    if (errno == EINTR || errno == EAGAIN) return true;
    if (target_ == STDERR_FILENO) {  // nobody hears its complaints; its work goes on
      pending_ = {};
      return true;
    }
    if (errno == EPIPE || (errno == EIO && io_.tty)) return false;  // a terminal that was closed says EIO
    return sys_error("write to standard output");
  }

  Result<bool> read_input() {
    buffer_.resize(kReadBytes);
    const std::size_t room = std::min(buffer_.size(), session_.stdin_room() - detach_.held_back());
    const ssize_t n = ::read(STDIN_FILENO, buffer_.data(), room);
    if (n < 0 && (errno == EINTR || errno == EAGAIN)) return false;
    if (n <= 0) {
      stdin_open_ = false;
      (void)session_.close_stdin().ok();
      return false;
    }
    const std::string_view typed(buffer_.data(), static_cast<std::size_t>(n));
    if (!io_.tty) {
      (void)session_.write_stdin(typed).ok();  // a command that is gone: its exit is on the way
      return false;
    }
    std::string kept;
    const bool detached = detach_.feed(typed, kept);
    (void)session_.write_stdin(kept).ok();
    if (!detached) return false;
    MSB_TRY(session_.detach());
    end_.kind = SessionEnd::Kind::kDetached;
    return true;
  }

  Result<bool> take_signals() {
    signalfd_siginfo info{};
    while (::read(signals_.get(), &info, sizeof info) == static_cast<ssize_t>(sizeof info)) {
      const int signal = static_cast<int>(info.ssi_signo);
      if (signal == SIGWINCH) {
        if (io_.tty) (void)session_.resize(terminal_size()).ok();
        continue;
      }
      if (signal == SIGHUP && io_.tty) {  // the terminal itself is gone
        end_.kind = SessionEnd::Kind::kInterrupted;
        end_.exit.signal = signal;
        return true;
      }
      if ((signal == SIGINT || signal == SIGTERM) && ++interrupts_ >= kInterruptsToGiveUp) {
        end_.kind = SessionEnd::Kind::kInterrupted;
        end_.exit.signal = signal;
        return true;
      }
      (void)session_.send_signal(signal).ok();
    }
    return false;
  }

  ExecSession& session_;
  const SessionIo& io_;
  UniqueFd signals_;
  DetachMatcher detach_;
  RawTerminal raw_;
  std::string_view pending_;  // of the session's last event
  int target_ = STDOUT_FILENO;
  std::array<bool, 2> regular_{};
  bool stdin_open_ = true;
  int interrupts_ = 0;
  std::string buffer_;
  SessionEnd end_;
};

}  // namespace

void hold_signals() {
  const sigset_t set = forwarded_set();
  ::sigprocmask(SIG_BLOCK, &set, nullptr);
  ::signal(SIGPIPE, SIG_IGN);
}

Result<SessionEnd> run_session(ExecSession& session, const SessionIo& io) {
  hold_signals();
  const sigset_t set = forwarded_set();
  UniqueFd signals(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!signals) return sys_error("watch for signals");
  return Pump(session, io, std::move(signals)).run();
}

Result<bool> wants_tty(bool force, bool forbid) {
  if (force && forbid) return usage_error("-t and --no-tty contradict each other");
  if (forbid) return false;
  const bool in = ::isatty(STDIN_FILENO) == 1;
  return force || (in && ::isatty(STDOUT_FILENO) == 1);
}

supervisor::ExecSpec::Tty this_terminal() {
  const char* term = std::getenv("TERM");
  const std::string_view type = term == nullptr ? "" : term;
  return {terminal_size(), type.empty() || type == "dumb" ? std::string("xterm") : std::string(type)};
}

int finish_session(const SessionEnd& end, const std::string& command, std::string_view verb) {
  switch (end.kind) {
    case SessionEnd::Kind::kExit:
      if (end.exit.timed_out)
        note("error: " + printable(command) + " ran out of its --timeout and was killed");
      return end.exit.shell_code();
    case SessionEnd::Kind::kDetached:
      return kExitOk;
    case SessionEnd::Kind::kOutputGone:
      return kExitSignalBase + SIGPIPE;
    case SessionEnd::Kind::kInterrupted:
      return kExitSignalBase + end.exit.signal.value_or(SIGINT);
    case SessionEnd::Kind::kFailure:
      break;
  }
  const std::string& code = end.failure.code;
  int exit_code = kExitOwnFailure;
  Errc errc = Errc::kSystem;
  if (code == "not_found") {
    exit_code = kExitNotFound;
    errc = Errc::kNotFound;
  } else if (code == "not_executable" || code == "permission") {
    exit_code = kExitNotExecutable;
    errc = Errc::kPermission;
  }
  return report(Error{errc, end.failure.sys_errno, "run " + command + ": " + end.failure.text}, exit_code,
                verb);
}

}  // namespace msb::cli
