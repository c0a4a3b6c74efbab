// SPDX-License-Identifier: Apache-2.0
#include "guest-agent/connection.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <array>
#include <utility>

#include "base/check.h"
#include "base/socket.h"

namespace msb::agent {
namespace {
constexpr std::size_t kReceiveBytes = std::size_t{64} << 10;
// Reads per wake-up, so that a busy client leaves room for the others.
constexpr int kReadsPerRound = 4;
constexpr int kWaitStepMs = 10;
// A backlog buffer larger than this is given back once it is empty.
constexpr std::size_t kKeepBacklogBytes = std::size_t{128} << 10;
}  // namespace

Connection::Connection(EventLoop& loop, UniqueFd socket, ConnectionEvents& events)
    : loop_(loop), socket_(std::move(socket)), events_(events) {}

Connection::~Connection() { loop_.remove(token_); }

Status Connection::start() {
  MSB_TRY(set_nonblocking(socket_.get(), true));
  watched_ = EPOLLIN | EPOLLRDHUP;
  MSB_ASSIGN(token_, loop_.add(socket_.get(), watched_, [this](std::uint32_t ready) { on_ready(ready); }));
  return {};
}

void Connection::watch() {
  if (gone_ || !socket_) return;
  std::uint32_t wanted = 0;
  if (!finishing_) wanted |= EPOLLRDHUP;
  if (!paused_ && !finishing_) wanted |= EPOLLIN;
  if (backlogged()) wanted |= EPOLLOUT;
  if (wanted == watched_) return;
  watched_ = wanted;
  if (const Status status = loop_.modify(token_, wanted); !status.ok()) fail({});
}

void Connection::fail(const Status& why) {
  if (gone_) return;
  gone_ = true;
  loop_.remove(token_);
  events_.on_gone(why);
}

void Connection::queue(proto::FrameType type, ByteView payload) {
  if (gone_) return;
  append_frame(backlog_, type, payload);
}

void Connection::send(proto::FrameType type, ByteView payload) {
  if (gone_) return;
  if (backlogged()) {
    queue(type, payload);
    flush();
    return;
  }
  const proto::FrameHeader header = proto::make_header(type, payload.size());
  std::array<iovec, 2> parts{{{const_cast<proto::FrameHeader*>(&header), sizeof header},
                              {const_cast<std::uint8_t*>(payload.data()), payload.size()}}};
  msghdr message{};
  message.msg_iov = parts.data();
  message.msg_iovlen = parts.size();
  const ssize_t sent = ::sendmsg(socket_.get(), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
  if (sent < 0 && errno != EAGAIN && errno != EINTR) {
    // The caller may be in the middle of something: tell it from the loop.
    ::shutdown(socket_.get(), SHUT_RDWR);
    return;
  }
  const std::size_t done = sent < 0 ? 0 : static_cast<std::size_t>(sent);
  if (done == sizeof header + payload.size()) return;
  if (done < sizeof header) {
    const auto* raw = reinterpret_cast<const std::uint8_t*>(&header);
    backlog_.insert(backlog_.end(), raw + done, raw + sizeof header);
  }
  const std::size_t payload_done = done < sizeof header ? 0 : done - sizeof header;
  backlog_.insert(backlog_.end(), payload.begin() + static_cast<std::ptrdiff_t>(payload_done), payload.end());
  watch();
}

void Connection::flush() {
  if (gone_) return;
  while (backlogged()) {
    const ssize_t sent =
        ::send(socket_.get(), backlog_.data() + sent_, backlog_.size() - sent_, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0) {
      if (errno == EINTR) continue;
      if (errno != EAGAIN) ::shutdown(socket_.get(), SHUT_RDWR);
      break;
    }
    sent_ += static_cast<std::size_t>(sent);
  }
  if (!backlogged()) {
    backlog_.clear();
    sent_ = 0;
    if (backlog_.capacity() > kKeepBacklogBytes) Bytes().swap(backlog_);
  }
  watch();
}

void Connection::flush_blocking(int timeout_ms) {
  for (int waited = 0; !gone_ && backlogged() && waited < timeout_ms; waited += kWaitStepMs) {
    pollfd wait{socket_.get(), POLLOUT, 0};
    if (::poll(&wait, 1, kWaitStepMs) > 0 && (wait.revents & (POLLERR | POLLHUP)) != 0) return;
    flush();
  }
}

void Connection::pause() {
  paused_ = true;
  if (!delivering_) watch();
}

void Connection::resume() {
  if (!paused_) return;
  paused_ = false;
  if (delivering_) return;
  if (!pending_.empty()) {
    const Bytes held = std::exchange(pending_, {});
    deliver(held);
  }
  watch();
}

void Connection::finish() {
  finishing_ = true;
  pending_.clear();
  flush();
  if (!gone_ && !backlogged()) {
    // From the loop: the caller may still be using what on_gone destroys.
    ::shutdown(socket_.get(), SHUT_WR);
    loop_.remove(token_);
    gone_ = true;
    events_.on_gone({});
  }
}

Connection::Raw Connection::hand_over() {
  loop_.remove(token_);
  gone_ = true;
  return Raw{std::move(socket_), Bytes(undelivered_.begin(), undelivered_.end()),
             Bytes(backlog_.begin() + static_cast<std::ptrdiff_t>(sent_), backlog_.end())};
}

void Connection::deliver(ByteView input) {
  delivering_ = true;
  while (!gone_ && !paused_ && !finishing_) {
    auto next = decoder_.next(input);
    if (!next.ok()) {
      delivering_ = false;
      fail(std::move(next).error());
      return;
    }
    if (!next->has_value()) break;
    undelivered_ = input;
    events_.on_frame(**next);
  }
  undelivered_ = {};
  delivering_ = false;
  if (gone_ || finishing_) return;
  if (!input.empty()) pending_.assign(input.begin(), input.end());
  events_.on_batch_end();
}

void Connection::receive() {
  // One loop thread: the buffer is shared by all connections.
  static std::array<std::uint8_t, kReceiveBytes> buffer;
  for (int round = 0; round < kReadsPerRound && !paused_ && !gone_ && !finishing_; ++round) {
    const ssize_t got = ::recv(socket_.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
    if (got < 0) {
      if (errno == EINTR) continue;
      if (errno != EAGAIN) fail({});
      return;
    }
    if (got == 0) {
      fail({});
      return;
    }
    deliver(ByteView(buffer).first(static_cast<std::size_t>(got)));
    if (static_cast<std::size_t>(got) < buffer.size()) return;
  }
}

void Connection::on_ready(std::uint32_t ready) {
  if ((ready & EPOLLOUT) != 0) {
    const bool waiting = backlogged();
    flush();
    if (waiting && !backlogged()) {
      if (finishing_) {
        finish();
        return;
      }
      events_.on_drained();
      if (gone_) return;
    }
  }
  if ((ready & EPOLLIN) != 0 && !paused_ && !finishing_) {
    receive();
    if (!gone_) watch();
    return;
  }
  if ((ready & (EPOLLHUP | EPOLLERR)) != 0 || ((ready & EPOLLRDHUP) != 0 && paused_)) fail({});
}

}  // namespace msb::agent
