// SPDX-License-Identifier: Apache-2.0
#include "net/frame_port.h"

#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "base/check.h"
#include "base/socket.h"

namespace msb::net {
namespace {
constexpr std::size_t kInSize = 384 * 1024;
constexpr std::size_t kCollectMax = 64 * 1024;
constexpr std::size_t kSmallFrame = 4 * 1024;
constexpr std::size_t kBacklogMax = 1024 * 1024;
constexpr int kReadsPerEvent = 4;
constexpr std::size_t kMaxParts = 6;
}  // namespace

SocketFramePort::SocketFramePort(EventLoop& loop, UniqueFd socket, bool vnet_hdr)
    : loop_(loop), socket_(std::move(socket)), vnet_hdr_(vnet_hdr), in_(new std::uint8_t[kInSize]) {}

SocketFramePort::~SocketFramePort() {
  if (token_.valid()) loop_.remove(token_);
}

Result<std::unique_ptr<SocketFramePort>> SocketFramePort::create(EventLoop& loop, UniqueFd socket,
                                                                 bool vnet_hdr) {
  MSB_TRY(set_nonblocking(socket.get(), true));
  // Room for a few of the largest frames; the kernel caps it by its own limit.
  const int size = 4 * 1024 * 1024;
  (void)::setsockopt(socket.get(), SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
  (void)::setsockopt(socket.get(), SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
  return std::unique_ptr<SocketFramePort>(new SocketFramePort(loop, std::move(socket), vnet_hdr));
}

Status SocketFramePort::start(Handlers handlers) {
  handlers_ = std::move(handlers);
  interest_ = EPOLLIN;
  MSB_ASSIGN(token_, loop_.add(socket_.get(), interest_, [this](std::uint32_t events) { on_event(events); }));
  return {};
}

void SocketFramePort::update_interest() {
  if (closed_) return;
  const std::uint32_t wanted =
      (reading_ ? std::uint32_t{EPOLLIN} : 0U) | (backlog_.empty() ? 0U : std::uint32_t{EPOLLOUT});
  if (wanted == interest_) return;
  interest_ = wanted;
  if (auto status = loop_.modify(token_, wanted); !status) close(std::move(status));
}

void SocketFramePort::close(Status why) {
  if (closed_) return;
  closed_ = true;
  loop_.remove(token_);
  token_ = {};
  if (handlers_.on_closed) handlers_.on_closed(std::move(why));
}

void SocketFramePort::set_reading(bool on) {
  reading_ = on;
  update_interest();
}

void SocketFramePort::on_event(std::uint32_t events) {
  if ((events & EPOLLOUT) != 0) write_backlog();
  if (closed_) return;
  if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0 && (reading_ || (events & (EPOLLHUP | EPOLLERR)) != 0))
    read_frames();
  if (closed_) return;
  flush();
}

void SocketFramePort::read_frames() {
  for (int round = 0; round < kReadsPerEvent && !closed_; ++round) {
    if (in_begin_ > 0) {
      std::memmove(in_.get(), in_.get() + in_begin_, in_end_ - in_begin_);
      in_end_ -= in_begin_;
      in_begin_ = 0;
    }
    const std::size_t room = kInSize - in_end_;
    const ssize_t got = ::recv(socket_.get(), in_.get() + in_end_, room, MSG_DONTWAIT);
    if (got < 0) {
      if (errno == EINTR) continue;
      if (errno == EAGAIN) break;
      return close(sys_error("read frames"));
    }
    if (got == 0) return close({});
    in_end_ += static_cast<std::size_t>(got);
    dispatch();
    if (static_cast<std::size_t>(got) < room / 2) break;
    if (!reading_) break;
  }
}

void SocketFramePort::dispatch() {
  const std::size_t extra = vnet_hdr_ ? sizeof(VnetHeader) : 0;
  while (in_end_ - in_begin_ >= sizeof(Be32) && !closed_) {
    Be32 prefix;
    std::memcpy(&prefix, in_.get() + in_begin_, sizeof prefix);
    const std::size_t length = prefix.get();
    if (length > kMaxFrame + extra) return close(make_error(Errc::kProtocol, "frame of %zu bytes", length));
    if (in_end_ - in_begin_ - sizeof prefix < length) break;
    ByteView frame(in_.get() + in_begin_ + sizeof prefix, length);
    in_begin_ += sizeof prefix + length;
    ++counters_.frames_in;
    counters_.bytes_in += length;
    VnetHeader header;
    if (vnet_hdr_) {
      if (length < extra) continue;
      std::memcpy(&header, frame.data(), sizeof header);
      frame = frame.subspan(extra);
    }
    if (handlers_.tap_in) handlers_.tap_in(frame);
    handlers_.on_frame(frame, header);
  }
  if (in_begin_ == in_end_) in_begin_ = in_end_ = 0;
  if (handlers_.on_batch_end) handlers_.on_batch_end();
}

bool SocketFramePort::send(std::span<const ByteView> parts, const VnetHeader& header) {
  if (closed_) return false;
  MSB_CHECK(parts.size() <= kMaxParts);
  std::size_t length = vnet_hdr_ ? sizeof(VnetHeader) : 0;
  for (const ByteView part : parts) length += part.size();
  if (backlog_.size() - backlog_done_ + collected_.size() + length > kBacklogMax + kCollectMax) {
    ++counters_.dropped_out;
    return false;
  }
  if (handlers_.tap_out) handlers_.tap_out(parts);
  ++counters_.frames_out;
  counters_.bytes_out += length;
  std::array<std::uint8_t, sizeof(Be32) + sizeof(VnetHeader)> lead{};
  const Be32 prefix(static_cast<std::uint32_t>(length));
  std::memcpy(lead.data(), &prefix, sizeof prefix);
  if (vnet_hdr_) std::memcpy(lead.data() + sizeof prefix, &header, sizeof header);
  const ByteView lead_view = ByteView(lead).first(sizeof prefix + (vnet_hdr_ ? sizeof header : 0));
  if (length <= kSmallFrame || !backlog_.empty()) {
    if (collected_.size() + length > kCollectMax) flush();
    Bytes& target = backlog_.empty() ? collected_ : backlog_;
    target.insert(target.end(), lead_view.begin(), lead_view.end());
    for (const ByteView part : parts) target.insert(target.end(), part.begin(), part.end());
    return true;
  }
  std::array<ByteView, kMaxParts + 2> all{};
  std::size_t count = 0;
  if (!collected_.empty()) all[count++] = collected_;
  all[count++] = lead_view;
  for (const ByteView part : parts) all[count++] = part;
  write_out(std::span(all).first(count));
  collected_.clear();
  update_interest();
  return true;
}

void SocketFramePort::flush() {
  if (collected_.empty() || closed_) return;
  if (backlog_.empty()) {
    const ByteView all = collected_;
    write_out(std::span(&all, 1));
  } else {
    backlog_.insert(backlog_.end(), collected_.begin(), collected_.end());
  }
  collected_.clear();
  update_interest();
}

// Only with an empty backlog. What is not taken becomes the backlog.
void SocketFramePort::write_out(std::span<const ByteView> parts) {
  std::array<iovec, kMaxParts + 2> vectors{};
  std::size_t count = 0;
  std::size_t total = 0;
  for (const ByteView part : parts) {
    if (part.empty()) continue;
    vectors[count++] = {const_cast<std::uint8_t*>(part.data()), part.size()};
    total += part.size();
  }
  msghdr message{};
  message.msg_iov = vectors.data();
  message.msg_iovlen = count;
  ssize_t sent = 0;
  do {
    sent = ::sendmsg(socket_.get(), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
  } while (sent < 0 && errno == EINTR);
  if (sent < 0) {
    // A gone peer shows itself as end of stream to the reader.
    if (errno != EAGAIN && errno != EPIPE && errno != ECONNRESET)
      return loop_.post([this, error = sys_error("write frames")] { close(error); });
    if (errno != EAGAIN) return;
    sent = 0;
  }
  auto skip = static_cast<std::size_t>(sent);
  if (skip == total) return;
  for (std::size_t i = 0; i < count; ++i) {
    const auto* data = static_cast<const std::uint8_t*>(vectors[i].iov_base);
    const std::size_t cut = std::min(skip, vectors[i].iov_len);
    skip -= cut;
    backlog_.insert(backlog_.end(), data + cut, data + vectors[i].iov_len);
  }
}

void SocketFramePort::write_backlog() {
  while (backlog_done_ < backlog_.size()) {
    const ssize_t sent = ::send(socket_.get(), backlog_.data() + backlog_done_,
                                backlog_.size() - backlog_done_, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0) {
      if (errno == EINTR) continue;
      if (errno == EAGAIN) return;
      return close(errno == EPIPE || errno == ECONNRESET ? Status() : Status(sys_error("write frames")));
    }
    backlog_done_ += static_cast<std::size_t>(sent);
  }
  backlog_ = Bytes();
  backlog_done_ = 0;
  update_interest();
  if (handlers_.on_writable) handlers_.on_writable();
}

}  // namespace msb::net
