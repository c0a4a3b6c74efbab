// SPDX-License-Identifier: Apache-2.0
#include "guest-agent/frame_stream.h"

#include <sys/socket.h>
#include <sys/uio.h>

#include <array>

#include "base/socket.h"

namespace msb::agent {
namespace {
constexpr std::size_t kReceiveBytes = std::size_t{256} << 10;
}  // namespace

FrameStream::FrameStream(Connection::Raw raw)
    : socket_(std::move(raw.socket)), unsent_(std::move(raw.unsent)), buffer_(std::move(raw.received)) {
  input_ = buffer_;
  (void)set_nonblocking(socket_.get(), false);
}

Status FrameStream::send_all(ByteView first, ByteView second) {
  while (!first.empty() || !second.empty()) {
    std::array<iovec, 2> parts{{{const_cast<std::uint8_t*>(first.data()), first.size()},
                                {const_cast<std::uint8_t*>(second.data()), second.size()}}};
    msghdr message{};
    message.msg_iov = parts.data();
    message.msg_iovlen = parts.size();
    const ssize_t sent = ::sendmsg(socket_.get(), &message, MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0) return Error{Errc::kUnavailable, errno, "the client is gone"};
    auto done = static_cast<std::size_t>(sent);
    const std::size_t of_first = std::min(done, first.size());
    first = first.subspan(of_first);
    second = second.subspan(done - of_first);
  }
  return {};
}

Status FrameStream::send(proto::FrameType type, ByteView payload) {
  const proto::FrameHeader header = proto::make_header(type, payload.size());
  const auto* raw = reinterpret_cast<const std::uint8_t*>(&header);
  if (unsent_.empty()) return send_all({raw, sizeof header}, payload);
  unsent_.insert(unsent_.end(), raw, raw + sizeof header);
  const Bytes first = std::exchange(unsent_, {});
  return send_all(first, payload);
}

Result<proto::Frame> FrameStream::receive() {
  // The client may be waiting for our HELLO before it goes on.
  if (!unsent_.empty()) {
    const Bytes first = std::exchange(unsent_, {});
    MSB_TRY(send_all(first, {}));
  }
  while (true) {
    MSB_ASSIGN(const std::optional<proto::Frame> frame, decoder_.next(input_));
    if (frame) return *frame;
    buffer_.resize(kReceiveBytes);
    const ssize_t got = ::recv(socket_.get(), buffer_.data(), buffer_.size(), 0);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return Error{Errc::kUnavailable, got < 0 ? errno : 0, "the client is gone"};
    input_ = ByteView(buffer_).first(static_cast<std::size_t>(got));
  }
}

}  // namespace msb::agent
