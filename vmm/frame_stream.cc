// SPDX-License-Identifier: Apache-2.0
#include "vmm/frame_stream.h"

#include <sys/socket.h>

#include <array>

#include "base/socket.h"

namespace msb::vmm {
namespace {
constexpr std::size_t kReadSize = 64 * 1024;
constexpr int kReadsPerWake = 4;
constexpr std::size_t kMaxQueued = std::size_t{4} << 20;
constexpr std::size_t kMaxLine = 64;
}  // namespace

Result<std::unique_ptr<FrameStream>> FrameStream::open(EventLoop& loop, UniqueFd socket, Events& events,
                                                       Preface preface) {
  MSB_TRY(set_nonblocking(socket.get(), true));
  std::unique_ptr<FrameStream> stream(new FrameStream(loop, std::move(socket), events, preface));
  FrameStream* const raw = stream.get();
  MSB_ASSIGN(raw->token_,
             loop.add(raw->socket_.get(), EPOLLIN, [raw](std::uint32_t e) { raw->on_events(e); }));
  return stream;
}

FrameStream::~FrameStream() {
  if (token_.valid()) loop_.remove(token_);
}

void FrameStream::dispose(EventLoop& loop, std::unique_ptr<FrameStream> stream) {
  if (!stream) return;
  stream->closed_ = true;
  loop.remove(stream->token_);
  stream->token_ = {};
  const std::shared_ptr<FrameStream> keep(std::move(stream));  // std::function wants copies
  loop.post([keep] {});
}

void FrameStream::on_events(std::uint32_t epoll_events) {
  if ((epoll_events & EPOLLOUT) != 0) flush();
  if (!closed_ && (epoll_events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) read_some();
}

void FrameStream::read_some() {
  std::array<std::uint8_t, kReadSize> buffer;
  for (int round = 0; round < kReadsPerWake && !closed_; ++round) {
    const ssize_t got = ::recv(socket_.get(), buffer.data(), buffer.size(), 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (got <= 0) {
      fail(got == 0 ? "closed" : sys_error("receive").text);
      return;
    }
    deliver(ByteView(buffer.data(), static_cast<std::size_t>(got)));
  }
}

void FrameStream::deliver(ByteView input) {
  while (preface_ == Preface::kOkLine && !input.empty()) {
    const char c = static_cast<char>(input[0]);
    input = input.subspan(1);
    if (c == '\n') {
      preface_ = Preface::kNone;
      if (!line_.starts_with("OK ")) {
        fail("the guest refused the connection");
        return;
      }
    } else if (line_.size() < kMaxLine) {
      line_.push_back(c);
    } else {
      fail("a line without end");
      return;
    }
  }
  while (!closed_) {
    auto frame = decoder_.next(input);
    if (!frame) {
      fail(frame.error().text);
      return;
    }
    if (!*frame) return;
    events_.on_frame(*this, **frame);
  }
}

void FrameStream::send_text(std::string_view line) {
  if (closed_) return;
  out_.insert(out_.end(), line.begin(), line.end());
  flush();
}

void FrameStream::send(proto::FrameType type, std::string_view payload) {
  if (closed_) return;
  if (out_.size() - sent_ > kMaxQueued) {
    fail("the peer does not read");
    return;
  }
  proto::append_frame(out_, type, payload);
  flush();
}

void FrameStream::flush() {
  while (sent_ < out_.size()) {  // each step sends at least a byte
    const ssize_t done = ::send(socket_.get(), out_.data() + sent_, out_.size() - sent_, MSG_NOSIGNAL);
    if (done < 0 && errno == EINTR) continue;
    if (done < 0 && errno == EAGAIN) break;
    if (done < 0) {
      // Told from a fresh stack: the caller may be in the middle of something. Reading will see the end too.
      break;
    }
    sent_ += static_cast<std::size_t>(done);
  }
  if (sent_ == out_.size()) {
    out_.clear();
    sent_ = 0;
  }
  static_cast<void>(loop_.modify(token_, drained() ? EPOLLIN : EPOLLIN | EPOLLOUT).ok());
}

void FrameStream::fail(const std::string& why) {
  if (closed_) return;
  closed_ = true;
  loop_.remove(token_);
  token_ = {};
  events_.on_closed(*this, why);
}

}  // namespace msb::vmm
