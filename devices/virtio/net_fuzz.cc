// SPDX-License-Identifier: Apache-2.0
// A guest and a peer that do what they like with a network device. First byte: the framing; the rest is the
// guest, whose host actions are what the peer says.
#include "devices/virtio/net.h"

#include <sys/socket.h>

#include <array>

#include "base/check.h"
#include "devices/virtio/testing/fuzz_guest.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace msb;
  using devices::Net;
  if (size == 0) return 0;
  auto loop = EventLoop::create();
  std::array<int, 2> fds{};
  MSB_CHECK(loop.ok() &&
            ::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds.data()) == 0);
  const UniqueFd peer(fds[0]);
  Net net(**loop, UniqueFd(fds[1]),
          {.mac = {2, 0, 0, 0, 0, 1},
           .mtu = 9000,
           .framing = (data[0] & 1) != 0 ? Net::Framing::kVirtioHeader : Net::Framing::kPlain});
  devices::testing::run_hostile_guest(net, ByteView(data + 1, size - 1), [&](ByteView said) {
    std::array<std::uint8_t, 4096> heard;
    static_cast<void>(::recv(peer.get(), heard.data(), heard.size(), 0));
    if (!said.empty()) static_cast<void>(::send(peer.get(), said.data(), said.size(), MSG_NOSIGNAL));
  });
  return 0;
}
