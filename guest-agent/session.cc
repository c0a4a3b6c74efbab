// SPDX-License-Identifier: Apache-2.0
#include "guest-agent/session.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <utility>

#include "base/clock.h"
#include "base/socket.h"

namespace msb::agent {
namespace {

constexpr std::size_t kReadBytes = std::size_t{64} << 10;
// A terminal's unread output is not counted by FIONREAD alone: read until it is dry, but not for ever when a
// background process keeps writing.
constexpr std::size_t kTerminalRemaining = std::size_t{256} << 10;
constexpr std::size_t kMaxShownArguments = 16;
constexpr std::size_t kMaxShownBytes = 256;

}  // namespace

Session::Session(EventLoop& loop, SessionOwner& owner, std::uint64_t id, const proto::ExecRequest& request)
    : loop_(loop),
      owner_(owner),
      id_(id),
      name_(request.name.substr(0, kMaxShownBytes)),
      user_(request.user.substr(0, kMaxShownBytes)),
      tty_(request.tty.has_value()),
      detachable_(request.detachable),
      log_(request.log),
      timeout_ms_(request.timeout_ms) {
  for (const std::string& argument : request.argv) {
    if (argv_.size() == kMaxShownArguments) break;
    argv_.push_back(argument.substr(0, kMaxShownBytes));
  }
}

Session::~Session() {
  close_stream(out_);
  close_stream(err_);
  drop_input();
  loop_.cancel_timer(timer_);
}

Status Session::start(pid_t pid, SessionStreams streams) {
  pid_ = pid;
  started_ns_ = wall_clock_ns();
  if (timeout_ms_ != 0) {
    timer_ = loop_.add_timer_after(std::chrono::milliseconds(timeout_ms_), [this] { on_timeout(); });
  }
  out_.fd = std::move(streams.out);
  if (tty_) out_.log = proto::LogStream::kTty;
  err_.fd = std::move(streams.err);
  err_.frame = proto::FrameType::kStderr;
  err_.log = proto::LogStream::kStderr;
  in_ = std::move(streams.in);
  if (out_.fd) MSB_TRY(watch_stream(out_));
  if (err_.fd) MSB_TRY(watch_stream(err_));
  if (in_) MSB_TRY(set_nonblocking(in_.get(), true));
  return {};
}

Status Session::watch_stream(Stream& stream) {
  MSB_TRY(set_nonblocking(stream.fd.get(), true));
  MSB_ASSIGN(stream.token,
             loop_.add(stream.fd.get(), EPOLLIN, [this, &stream](std::uint32_t) { on_readable(stream); }));
  stream.watched = true;
  return {};
}

// Reads while the client keeps up or there is none; an ended session's remains are always read.
void Session::watch_output() {
  const bool want = ended_ || client_ == nullptr || !client_->output_backlogged();
  for (Stream* stream : {&out_, &err_}) {
    if (!stream->fd || stream->watched == want) continue;
    stream->watched = want;
    // Without interest a hang-up is still reported for ever: take the descriptor out instead.
    if (!want) {
      loop_.remove(stream->token);
      stream->token = {};
    } else if (!watch_stream(*stream).ok()) {
      close_stream(*stream);
    }
  }
}

void Session::close_stream(Stream& stream) {
  loop_.remove(stream.token);
  stream.token = {};
  stream.watched = false;
  stream.fd.reset();
}

void Session::on_readable(Stream& stream) {
  read_once(stream);
  drain_terminal();
}

// After the end of its process a terminal that is dry makes no event that would say so: read until it says
// EAGAIN.
void Session::drain_terminal() {
  while (tty_ && exit_ && !ended_ && out_.fd && out_.watched) read_once(out_);
}

void Session::read_once(Stream& stream) {
  // One loop thread: the buffer is shared by all sessions.
  static std::array<std::uint8_t, kReadBytes> buffer;
  const bool dropping = stream.remaining == std::size_t{0};
  const std::size_t wanted =
      stream.remaining && !dropping ? std::min(buffer.size(), *stream.remaining) : buffer.size();
  const ssize_t got = ::read(stream.fd.get(), buffer.data(), wanted);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
    // A terminal is dry only now; a pipe's remains were counted.
    if (errno == EAGAIN && stream.remaining && tty_ && !ended_) {
      stream.remaining = 0;
      maybe_end();
    }
    return;
  }
  if (got <= 0) {  // end of file; a terminal without users says EIO
    close_stream(stream);
    if (ended_) {
      if (!open_streams()) owner_.session_quiet(*this);
    } else {
      maybe_end();
    }
    return;
  }
  const ByteView data = ByteView(buffer).first(static_cast<std::size_t>(got));
  if (dropping) return;
  if (stream.remaining) *stream.remaining -= data.size();
  deliver(stream, data);
  maybe_end();
}

void Session::deliver(Stream& stream, ByteView data) {
  output_end_ += data.size();
  if (detachable_) history_.append(stream.frame, data);
  if (log_) owner_.session_log(*this, stream.log, data);
  if (client_ != nullptr) {
    client_->session_output(stream.frame, data);
    watch_output();
  }
}

void Session::limit_remaining(Stream& stream) {
  if (!stream.fd) return;
  if (tty_) {
    stream.remaining = kTerminalRemaining;
    return;
  }
  int available = 0;
  if (::ioctl(stream.fd.get(), FIONREAD, &available) != 0 || available < 0) available = 0;
  stream.remaining = static_cast<std::size_t>(available);
}

void Session::on_reaped(int status) {
  exit_ = proto::Exit::from_wait_status(status);
  exit_->timed_out = timed_out_;
  loop_.cancel_timer(timer_);
  drop_input();
  limit_remaining(out_);
  limit_remaining(err_);
  maybe_end();
  drain_terminal();
}

void Session::maybe_end() {
  if (!exit_ || ended_ || !out_.delivered() || !err_.delivered()) return;
  ended_ = true;
  if (SessionClient* client = std::exchange(client_, nullptr)) client->session_exited(*exit_);
  watch_output();
  owner_.session_ended(*this);
  if (!open_streams()) owner_.session_quiet(*this);
}

void Session::on_timeout() {
  timer_ = 0;
  timed_out_ = true;
  (void)signal(SIGKILL);
}

proto::SessionInfo Session::info() const {
  proto::SessionInfo info;
  info.id = id_;
  info.pid = pid_;
  info.name = name_;
  info.argv = argv_;
  info.user = user_;
  info.tty = tty_;
  info.detachable = detachable_;
  info.attached = client_ != nullptr;
  info.started_ns = started_ns_;
  info.output_end = output_end_;
  info.exit = exit_;
  return info;
}

std::uint64_t Session::attach_position(std::optional<std::uint64_t> from) const {
  const std::uint64_t oldest = detachable_ ? history_.begin() : output_end_;
  return std::clamp(from.value_or(oldest), oldest, output_end_);
}

void Session::attach(SessionClient& client, std::uint64_t from) {
  client_ = &client;
  if (from < output_end_) {
    history_.replay(from,
                    [&](proto::FrameType stream, ByteView data) { client.session_output(stream, data); });
  }
  if (ended_) {
    client_ = nullptr;
    client.session_exited(*exit_);
    return;
  }
  resume_output();
}

void Session::resume_output() {
  watch_output();
  drain_terminal();
}

void Session::detach() {
  client_ = nullptr;
  // Held input is still the program's; nothing waits for its end any more.
  resume_output();
}

bool Session::write_input(ByteView data) {
  if (!in_ || close_input_after_) return true;  // the program closed it: input is lost as with a pipe
  input_.insert(input_.end(), data.begin(), data.end());
  return flush_input();
}

bool Session::flush_input() {
  while (input_done_ < input_.size()) {
    const ssize_t written = ::write(in_.get(), input_.data() + input_done_, input_.size() - input_done_);
    if (written > 0) {
      input_done_ += static_cast<std::size_t>(written);
      continue;
    }
    if (written < 0 && errno == EINTR) continue;
    if (written < 0 && errno == EAGAIN) {
      // Watched only while there is something to write: a hang-up would be reported again and again.
      if (!in_token_.valid()) {
        auto token = loop_.add(in_.get(), EPOLLOUT, [this](std::uint32_t) { on_input_ready(); });
        if (!token.ok()) {
          drop_input();
          return true;
        }
        in_token_ = *token;
      }
      return false;
    }
    drop_input();
    return true;
  }
  input_.clear();
  input_done_ = 0;
  if (input_.capacity() > kReadBytes) Bytes().swap(input_);
  loop_.remove(in_token_);
  in_token_ = {};
  if (close_input_after_) drop_input();
  return true;
}

void Session::on_input_ready() {
  if (flush_input() && client_ != nullptr) client_->input_drained();
}

void Session::drop_input() {
  loop_.remove(in_token_);
  in_token_ = {};
  in_.reset();
  Bytes().swap(input_);
  input_done_ = 0;
}

void Session::close_input() {
  if (!in_ || close_input_after_) return;
  if (tty_) {
    // A terminal has no end of file of its own: type its end-of-file character, where lines are edited.
    termios settings{};
    if (::tcgetattr(in_.get(), &settings) != 0 || (settings.c_lflag & static_cast<tcflag_t>(ICANON)) == 0)
      return;
    const std::uint8_t eof = settings.c_cc[VEOF];
    (void)write_input(ByteView(&eof, 1));
    return;
  }
  close_input_after_ = true;
  if (input_done_ == input_.size()) drop_input();
}

void Session::resize(proto::TtySize size) {
  if (!tty_ || !out_.fd) return;
  winsize window{};
  window.ws_row = size.rows;
  window.ws_col = size.cols;
  ::ioctl(out_.fd.get(), TIOCSWINSZ, &window);
}

Status Session::signal(int number) {
  // Before the process is reaped its group id cannot be anyone else's.
  if (!running()) return make_error(Errc::kUnavailable, "the session has ended");
  if (::kill(-pid_, number) != 0) return sys_error("signal the session");
  return {};
}

void Session::kill_abandoned() {
  if (!running()) return;
  (void)signal(SIGHUP);
  (void)signal(SIGCONT);
  if (tty_) {
    close_stream(out_);  // with the input below: the master is gone, the terminal hangs up
    drop_input();
  }
  (void)signal(SIGKILL);
}

}  // namespace msb::agent
