// SPDX-License-Identifier: Apache-2.0
// The framing of the link: whatever the other end writes, in whatever pieces, every frame handed out lies in
// what was written, and a length that must not be ends the port. The first byte says how the input is cut and
// whether frames carry the virtio-net header.
#include <sys/socket.h>

#include <cstdlib>

#include "base/socket.h"
#include "net/frame_port.h"

namespace {

using namespace msb;       // NOLINT: a fuzz target is one file
using namespace msb::net;  // NOLINT

void check(bool good) {
  if (!good) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  static const std::unique_ptr<EventLoop> loop = std::move(EventLoop::create()).value();
  auto pair = std::move(socket_pair(SOCK_STREAM)).value();
  const bool vnet = (data[0] & 0x80) != 0;
  const std::size_t piece = (data[0] & 0x7fU) + 1U;
  auto port = std::move(SocketFramePort::create(*loop, std::move(pair.second), vnet)).value();
  std::size_t frames = 0;
  std::size_t bytes = 0;
  int closed = 0;
  FramePort::Handlers handlers;
  handlers.on_frame = [&](ByteView frame, const VnetHeader&) {
    check(closed == 0 && frame.size() <= SocketFramePort::kMaxFrame);
    ++frames;
    bytes += frame.size() + 4 + (vnet ? sizeof(VnetHeader) : 0);
    // What is read is also sent back, so that the writing half sees every size.
    const ByteView half = frame.first(frame.size() / 2);
    const std::array<ByteView, 2> parts{half, frame.subspan(half.size())};
    (void)port->send(parts, {});
  };
  handlers.on_closed = [&](const Status&) { ++closed; };
  check(port->start(std::move(handlers)).ok());
  const ByteView input(data + 1, size - 1);
  for (std::size_t at = 0; at < input.size() && closed == 0; at += piece) {
    const ByteView part = input.subspan(at, std::min(piece, input.size() - at));
    check(::send(pair.first.get(), part.data(), part.size(), MSG_NOSIGNAL) ==
          static_cast<ssize_t>(part.size()));
    check(loop->run_once(Duration{0}).ok());
  }
  check(bytes <= input.size() && closed <= 1);
  check(port->counters().frames_in >= frames);
  return 0;
}
