// SPDX-License-Identifier: Apache-2.0
#include "net/port_publisher.h"

#include <algorithm>

#include "net/host_socket.h"

namespace msb::net {
namespace {
constexpr int kBacklog = 4096;
constexpr int kAcceptsPerEvent = 64;
constexpr int kDatagramsPerEvent = 64;
constexpr std::size_t kMaxDatagram = 65536;
constexpr std::size_t kMaxListeners = 8192;
}  // namespace

PortPublisher::~PortPublisher() {
  for (auto& listener : listeners_) loop_.remove(listener->token);
}

Result<std::unique_ptr<PortPublisher::Listener>> PortPublisher::open(const Published& wanted) {
  const bool udp = wanted.protocol == proto::NetProtocol::kUdp;
  const std::string what =
      std::string("publish ") + endpoint_text(wanted.bind, wanted.host) + (udp ? "/udp" : "/tcp");
  auto listener = std::make_unique<Listener>();
  MSB_ASSIGN(listener->socket,
             open_socket(wanted.bind.family(), udp ? SOCK_DGRAM : SOCK_STREAM).with_context(what));
  const int fd = listener->socket.get();
  const int on = 1;
  if (!udp) (void)::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  const SocketAddress address = to_socket_address(wanted.bind, wanted.host);
  if (::bind(fd, address.get(), address.length) != 0) return sys_error(what);
  if (!udp && ::listen(fd, kBacklog) != 0) return sys_error(what);
  listener->published = wanted;
  listener->published.host = local_endpoint(fd).second;
  Listener* raw = listener.get();
  MSB_ASSIGN(listener->token, loop_.add(fd, EPOLLIN, [this, raw, udp](std::uint32_t) {
    if (udp)
      on_datagrams(*raw);
    else
      on_accept(*raw);
  }));
  return listener;
}

Result<std::vector<PortPublisher::Published>> PortPublisher::add(const proto::NetPortSpec& port) {
  if (listeners_.size() + port.count > kMaxListeners)
    return make_error(Errc::kLimit, "more than %zu published ports", kMaxListeners);
  std::vector<std::unique_ptr<Listener>> opened;
  std::vector<Published> out;
  for (std::uint16_t i = 0; i < port.count; ++i) {
    Published wanted;
    wanted.bind = port.bind;
    wanted.host = port.host == 0 ? std::uint16_t{0} : static_cast<std::uint16_t>(port.host + i);
    wanted.guest = static_cast<std::uint16_t>(port.guest + i);
    wanted.protocol = port.protocol;
    auto listener = open(wanted);
    if (!listener) {
      for (auto& done : opened) loop_.remove(done->token);
      return std::move(listener).error();
    }
    out.push_back((*listener)->published);
    opened.push_back(std::move(listener).value());
  }
  for (auto& listener : opened) listeners_.push_back(std::move(listener));
  return out;
}

void PortPublisher::close(Listener& listener) {
  loop_.remove(listener.token);
  if (listener.published.protocol == proto::NetProtocol::kUdp) udp_.forget_socket(listener.socket.get());
}

Status PortPublisher::remove(const proto::NetPortSpec& port) {
  const auto matches = [&](const Published& published) {
    if (published.protocol != port.protocol || published.bind != port.bind) return false;
    if (published.guest < port.guest || published.guest - port.guest >= port.count) return false;
    return port.host == 0 || published.host == port.host + (published.guest - port.guest);
  };
  const std::size_t before = listeners_.size();
  std::erase_if(listeners_, [&](const std::unique_ptr<Listener>& listener) {
    if (!matches(listener->published)) return false;
    close(*listener);
    return true;
  });
  if (listeners_.size() == before) return make_error(Errc::kNotFound, "no such published port");
  return {};
}

std::vector<PortPublisher::Published> PortPublisher::list() const {
  std::vector<Published> out;
  for (const auto& listener : listeners_) out.push_back(listener->published);
  return out;
}

void PortPublisher::on_accept(Listener& listener) {
  const std::uint16_t guest_port = listener.published.guest;
  for (int i = 0; i < kAcceptsPerEvent; ++i) {
    SocketAddress address;
    address.length = sizeof address.storage;
    UniqueFd client(
        ::accept4(listener.socket.get(), address.get(), &address.length, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (!client) {
      if (errno == EINTR || errno == ECONNABORTED) continue;
      return;
    }
    const auto [peer, peer_port] = from_socket_address(address);
    tcp_.accept_inbound(std::move(client), peer, peer_port, guest_port);
  }
}

void PortPublisher::on_datagrams(Listener& listener) {
  static thread_local Bytes buffer(kMaxDatagram);
  for (int i = 0; i < kDatagramsPerEvent; ++i) {
    SocketAddress address;
    address.length = sizeof address.storage;
    const ssize_t got = ::recvfrom(listener.socket.get(), buffer.data(), buffer.size(), MSG_DONTWAIT,
                                   address.get(), &address.length);
    if (got < 0) return;
    const auto [peer, peer_port] = from_socket_address(address);
    udp_.on_inbound(listener.socket.get(), peer, peer_port, listener.published.guest,
                    ByteView(buffer).first(static_cast<std::size_t>(got)));
  }
}

}  // namespace msb::net
