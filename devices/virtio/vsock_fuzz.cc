// SPDX-License-Identifier: Apache-2.0
// A guest and host clients that do what they like with a socket device. Each host action's first byte says
// what a client does: connect, speak, listen, half-close, leave.
#include "devices/virtio/vsock.h"

#include <sys/socket.h>
#include <sys/un.h>

#include <array>

#include "base/check.h"
#include "devices/virtio/testing/fuzz_guest.h"

namespace {
using namespace msb;

constexpr std::size_t kMaxClients = 12;
constexpr std::size_t kMaxConnections = 8;

class Host final : public devices::HostConnector {
 public:
  Host() {
    sockaddr_un any{};  // the kernel chooses an abstract name
    any.sun_family = AF_UNIX;
    length_ = sizeof address_;
    MSB_CHECK(::bind(listener_.get(), reinterpret_cast<sockaddr*>(&any), sizeof any.sun_family) == 0 &&
              ::listen(listener_.get(), kMaxClients) == 0 &&
              ::getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&address_), &length_) == 0);
  }
  UniqueFd take_listener() { return std::move(listener_); }

  void connect(std::uint32_t port, Done done) override {
    if (port % 4 == 0) return done(make_error(Errc::kPermission, "not allowed"));
    if (port % 4 == 1) return waiting_.push_back(std::move(done));
    answer(done);
  }

  void act(ByteView input) {
    if (input.empty()) return;
    const std::uint8_t what = input[0];
    const ByteView text = input.subspan(1);
    if (what % 8 == 0 && clients_.size() < kMaxClients) {
      UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
      if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address_), length_) == 0)
        clients_.push_back(std::move(fd));
      return;
    }
    if (what % 8 == 1 && !waiting_.empty()) {
      Done done = std::move(waiting_.back());
      waiting_.pop_back();
      return answer(done);
    }
    if (clients_.empty()) return;
    const std::size_t which = what / 8 % clients_.size();
    const int fd = clients_[which].get();
    std::array<std::uint8_t, 4096> heard;
    if (what % 8 <= 3) static_cast<void>(::send(fd, text.data(), text.size(), MSG_NOSIGNAL));
    if (what % 8 == 4) static_cast<void>(::recv(fd, heard.data(), heard.size(), 0));
    if (what % 8 == 5) ::shutdown(fd, SHUT_WR);
    if (what % 8 == 6) ::shutdown(fd, SHUT_RD);
    if (what % 8 == 7) clients_.erase(clients_.begin() + static_cast<std::ptrdiff_t>(which));
  }

 private:
  void answer(const Done& done) {
    std::array<int, 2> fds{};
    MSB_CHECK(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds.data()) == 0);
    clients_.emplace_back(fds[0]);
    done(UniqueFd(fds[1]));
  }

  UniqueFd listener_{::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)};
  sockaddr_un address_{};
  socklen_t length_ = 0;
  std::vector<UniqueFd> clients_;
  std::vector<Done> waiting_;
};
}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  auto loop = EventLoop::create();
  MSB_CHECK(loop.ok());
  Host host;
  devices::Vsock vsock(**loop, host.take_listener(), &host,
                       {.window = 4096, .max_connections = kMaxConnections, .max_handshakes = 2});
  devices::testing::run_hostile_guest(vsock, ByteView(data, size), [&](ByteView input) { host.act(input); });
  MSB_CHECK(vsock.counters().connections.load() <= kMaxConnections);
  return 0;
}
