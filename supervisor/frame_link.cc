// SPDX-License-Identifier: Apache-2.0
#include "supervisor/frame_link.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "base/file.h"
#include "base/socket.h"

namespace msb::supervisor {
namespace {

constexpr std::size_t kReadBytes = std::size_t{64} << 10;
constexpr std::string_view kClientName = "msb/0.1.0";

Error gone() { return make_error(Errc::kUnavailable, "the sandbox closed the connection"); }

Errc errc_from_agent(std::string_view code) {
  if (code == "not_found" || code == "bad_cwd") return Errc::kNotFound;
  if (code == "not_executable" || code == "permission") return Errc::kPermission;
  if (code == "bad_user" || code == "bad_args") return Errc::kInvalid;
  if (code == "no_memory") return Errc::kLimit;
  for (int value = 0; value <= static_cast<int>(Errc::kInternal); ++value) {
    if (errc_name(static_cast<Errc>(value)) == code) return static_cast<Errc>(value);
  }
  return Errc::kSystem;
}

}  // namespace

Status wait_for(int fd, short events, Deadline deadline) {
  const SteadyClock clock;
  pollfd poll_fd{fd, events, 0};
  for (;;) {
    timespec limit{};
    if (deadline) {
      const auto left = std::max<std::int64_t>((*deadline - clock.now()).count(), 0);
      limit = {left / 1'000'000'000, left % 1'000'000'000};
    }
    const int ready = ::ppoll(&poll_fd, 1, deadline ? &limit : nullptr, nullptr);
    if (ready > 0) return {};
    if (ready == 0) return make_error(Errc::kTimeout, "the sandbox did not answer in time");
    if (errno != EINTR) return sys_error("wait for the sandbox");
  }
}

short FrameLink::wanted_events() const {
  return static_cast<short>(queued_bytes() != 0 ? POLLIN | POLLOUT : POLLIN);
}

void FrameLink::queue(proto::FrameType type, std::string_view payload) {
  if (sent_ == out_.size()) {
    out_.clear();
    sent_ = 0;
  }
  proto::append_frame(out_, type, payload);
}

Status FrameLink::flush() {
  while (sent_ < out_.size()) {
    const ssize_t n =
        ::send(socket_.get(), out_.data() + sent_, out_.size() - sent_, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n > 0) {
      sent_ += static_cast<std::size_t>(n);
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      return {};
    } else if (errno == EPIPE || errno == ECONNRESET) {
      return gone();
    } else if (errno != EINTR) {
      return sys_error("send to the sandbox");
    }
  }
  return {};
}

Status FrameLink::flush_all(Deadline deadline) {
  for (;;) {
    MSB_TRY(flush());
    if (queued_bytes() == 0) return {};
    MSB_TRY(wait_for(fd(), POLLOUT, deadline));
  }
}

Result<bool> FrameLink::fill() {
  in_.resize(kReadBytes);
  in_at_ = 0;
  for (;;) {
    const ssize_t n = ::recv(socket_.get(), in_.data(), in_.size(), MSG_DONTWAIT);
    if (n > 0) {
      in_.resize(static_cast<std::size_t>(n));
      return true;
    }
    if (n < 0 && errno == EINTR) continue;
    in_.clear();
    if (n == 0 || errno == ECONNRESET) return gone();
    if (errno == EAGAIN || errno == EWOULDBLOCK) return false;
    return sys_error("receive from the sandbox");
  }
}

Result<std::optional<proto::Frame>> FrameLink::next() {
  for (;;) {
    ByteView rest = ByteView(in_).subspan(in_at_);
    MSB_ASSIGN(auto frame, decoder_.next(rest));
    in_at_ = in_.size() - rest.size();
    if (frame) return frame;
    MSB_ASSIGN(const bool more, fill());
    if (!more) return std::optional<proto::Frame>{};
  }
}

Result<proto::Frame> FrameLink::wait_frame(Deadline deadline) {
  for (;;) {
    MSB_TRY(flush());
    MSB_ASSIGN(const auto frame, next());
    if (frame) return *frame;
    MSB_TRY(wait_for(fd(), wanted_events(), deadline));
  }
}

Result<std::string> FrameLink::wait_line(Deadline deadline) {
  std::string line;
  for (;;) {
    while (in_at_ < in_.size()) {
      const char c = static_cast<char>(in_[in_at_++]);
      if (c == '\n') return line;
      line += c;
      if (line.size() > 256) return make_error(Errc::kProtocol, "the sandbox's socket answered with no line");
    }
    MSB_ASSIGN(const bool more, fill());
    if (!more) MSB_TRY(wait_for(fd(), POLLIN, deadline));
  }
}

Result<FrameLink> connect_agent(int directory_fd, Deadline deadline) {
  MSB_ASSIGN(const UniqueFd run, open_at(directory_fd, "run", O_PATH | O_DIRECTORY | O_NOFOLLOW));
  MSB_ASSIGN(UniqueFd socket, connect_unix(run.get(), "vsock.sock"));
  const std::string connect = "CONNECT " + std::to_string(proto::kAgentPort) + "\n";
  if (::send(socket.get(), connect.data(), connect.size(), MSG_NOSIGNAL) !=
      static_cast<ssize_t>(connect.size())) {
    return sys_error("connect to the guest's agent");
  }
  FrameLink link(std::move(socket));
  MSB_ASSIGN(const std::string answer, link.wait_line(deadline));
  if (!answer.starts_with("OK "))
    return make_error(Errc::kUnavailable, "connect to the guest's agent: refused");
  return link;
}

Result<FrameLink> connect_control(int directory_fd) {
  MSB_ASSIGN(const UniqueFd run, open_at(directory_fd, "run", O_PATH | O_DIRECTORY | O_NOFOLLOW));
  MSB_ASSIGN(UniqueFd socket, connect_unix(run.get(), "control.sock"));
  return FrameLink(std::move(socket));
}

void queue_request(FrameLink& link, std::string_view request_json) {
  proto::Hello hello;
  hello.agent = kClientName;
  link.queue(proto::FrameType::kHello, proto::to_json(hello));
  link.queue(proto::FrameType::kRequest, request_json);
}

Result<std::optional<proto::Frame>> skip_hello(proto::Frame frame) {
  if (frame.type() != proto::FrameType::kHello) return std::optional<proto::Frame>(frame);
  MSB_ASSIGN(const proto::Hello theirs, proto::from_json<proto::Hello>(as_text(frame.payload)));
  MSB_TRY(proto::negotiate(proto::Hello{}, theirs));
  return std::optional<proto::Frame>{};
}

Error error_from_frame(const proto::Frame& frame, std::string_view what) {
  auto parsed = proto::from_json<proto::ErrorReply>(as_text(frame.payload));
  if (!parsed.ok()) return std::move(parsed).error().with_context(what);
  Error error{errc_from_agent(parsed->code), parsed->sys_errno, std::move(parsed->text)};
  return what.empty() ? error : std::move(error).with_context(what);
}

Result<std::string> wait_reply(FrameLink& link, Deadline deadline) {
  for (;;) {
    MSB_ASSIGN(const proto::Frame raw, link.wait_frame(deadline));
    MSB_ASSIGN(const auto frame, skip_hello(raw));
    if (!frame) continue;
    if (frame->type() == proto::FrameType::kReply) return std::string(as_text(frame->payload));
    if (frame->type() == proto::FrameType::kError) return error_from_frame(*frame, "");
    return make_error(Errc::kProtocol, "unexpected frame of type %u", static_cast<unsigned>(frame->raw_type));
  }
}

}  // namespace msb::supervisor
