// SPDX-License-Identifier: Apache-2.0
// tap_bridge NAME FRAME_FD [--vnet]: makes a TAP device in this network namespace and carries its frames over
// a stream socket in the framing of msb-net, so that this machine's own TCP/IP stack can play the guest. One
// thread each way, blocking: it ends when the socket does.
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <thread>
#include <vector>

#include "base/wire.h"

namespace {

constexpr std::size_t kMaxFrame = 70000;

bool write_whole(int fd, const std::uint8_t* data, std::size_t size) {
  while (size > 0) {
    const ssize_t wrote = ::send(fd, data, size, MSG_NOSIGNAL);
    if (wrote <= 0) return false;
    data += wrote;
    size -= static_cast<std::size_t>(wrote);
  }
  return true;
}

void tap_to_socket(int tap, int socket) {
  std::vector<std::uint8_t> buffer(kMaxFrame + 4);
  while (true) {
    const ssize_t got = ::read(tap, buffer.data() + 4, kMaxFrame);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) {
      // The device is down: wait for it to be brought up.
      ::usleep(1000);
      continue;
    }
    const msb::Be32 length(static_cast<std::uint32_t>(got));
    std::memcpy(buffer.data(), &length, 4);
    if (!write_whole(socket, buffer.data(), static_cast<std::size_t>(got) + 4)) std::exit(0);
  }
}

void socket_to_tap(int socket, int tap) {
  std::vector<std::uint8_t> buffer(512 * 1024);
  std::size_t used = 0;
  while (true) {
    const ssize_t got = ::recv(socket, buffer.data() + used, buffer.size() - used, 0);
    if (got <= 0) std::exit(0);
    used += static_cast<std::size_t>(got);
    std::size_t at = 0;
    while (used - at >= 4) {
      msb::Be32 prefix;
      std::memcpy(&prefix, buffer.data() + at, 4);
      const std::size_t length = prefix.get();
      if (length > kMaxFrame) std::exit(3);
      if (used - at - 4 < length) break;
      (void)!::write(tap, buffer.data() + at + 4, length);
      at += 4 + length;
    }
    std::memmove(buffer.data(), buffer.data() + at, used - at);
    used -= at;
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) return 2;
  const bool vnet = argc > 3 && std::string_view(argv[3]) == "--vnet";
  const int tap = ::open("/dev/net/tun", O_RDWR | O_CLOEXEC);
  if (tap < 0) return std::perror("/dev/net/tun"), 1;
  ifreq request{};
  std::snprintf(request.ifr_name, sizeof request.ifr_name, "%s", argv[1]);
  request.ifr_flags = static_cast<short>(IFF_TAP | IFF_NO_PI | (vnet ? IFF_VNET_HDR : 0));
  if (::ioctl(tap, TUNSETIFF, &request) != 0) return std::perror("TUNSETIFF"), 1;
  if (vnet) {
    int size = 12;
    if (::ioctl(tap, TUNSETVNETHDRSZ, &size) != 0) return std::perror("TUNSETVNETHDRSZ"), 1;
    if (::ioctl(tap, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6) != 0)
      return std::perror("TUNSETOFFLOAD"), 1;
  }
  const int socket = static_cast<int>(std::strtol(argv[2], nullptr, 10));
  std::puts("ready");
  std::fflush(stdout);
  std::thread other(tap_to_socket, tap, socket);
  socket_to_tap(socket, tap);
}
