// SPDX-License-Identifier: Apache-2.0
#include "net/host_socket.h"

#include <netinet/in.h>
#include <netinet/tcp.h>

#include <cstring>

#include "net/address_class.h"

namespace msb::net {

SocketAddress to_socket_address(const IpAddress& address, std::uint16_t port) {
  SocketAddress out;
  if (address.is_v4()) {
    sockaddr_in in{};
    in.sin_family = AF_INET;
    in.sin_port = __builtin_bswap16(port);
    in.sin_addr.s_addr = __builtin_bswap32(address.v4_value());
    std::memcpy(&out.storage, &in, sizeof in);
    out.length = sizeof in;
  } else {
    sockaddr_in6 in{};
    in.sin6_family = AF_INET6;
    in.sin6_port = __builtin_bswap16(port);
    std::memcpy(&in.sin6_addr, address.raw().data(), 16);
    std::memcpy(&out.storage, &in, sizeof in);
    out.length = sizeof in;
  }
  return out;
}

std::pair<IpAddress, std::uint16_t> from_socket_address(const SocketAddress& address) {
  if (address.storage.ss_family == AF_INET) {
    sockaddr_in in{};
    std::memcpy(&in, &address.storage, sizeof in);
    return {IpAddress::v4(__builtin_bswap32(in.sin_addr.s_addr)), __builtin_bswap16(in.sin_port)};
  }
  if (address.storage.ss_family == AF_INET6) {
    sockaddr_in6 in{};
    std::memcpy(&in, &address.storage, sizeof in);
    std::array<std::uint8_t, 16> bytes{};
    std::memcpy(bytes.data(), &in.sin6_addr, 16);
    return {unmap(IpAddress::v6(bytes)), __builtin_bswap16(in.sin6_port)};
  }
  return {};
}

std::pair<IpAddress, std::uint16_t> local_endpoint(int socket) {
  SocketAddress address;
  address.length = sizeof address.storage;
  if (::getsockname(socket, address.get(), &address.length) != 0) return {};
  return from_socket_address(address);
}

Result<UniqueFd> open_socket(IpAddress::Family family, int type, int protocol) {
  UniqueFd fd(::socket(family == IpAddress::Family::kV4 ? AF_INET : AF_INET6,
                       type | SOCK_NONBLOCK | SOCK_CLOEXEC, protocol));
  if (!fd) return sys_error("open a socket");
  if (family == IpAddress::Family::kV6) {
    const int on = 1;
    if (::setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on) != 0)
      return sys_error("set IPV6_V6ONLY");
  }
  return fd;
}

int start_connect(int socket, const IpAddress& address, std::uint16_t port) {
  const SocketAddress target = to_socket_address(address, port);
  return ::connect(socket, target.get(), target.length) == 0 ? 0 : errno;
}

int take_socket_error(int socket) {
  int error = 0;
  socklen_t length = sizeof error;
  if (::getsockopt(socket, SOL_SOCKET, SO_ERROR, &error, &length) != 0) return errno;
  return error;
}

void tune_stream(int socket) {
  const int on = 1;
  (void)::setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  (void)::setsockopt(socket, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
}

void make_abortive(int socket) {
  const linger now{1, 0};
  (void)::setsockopt(socket, SOL_SOCKET, SO_LINGER, &now, sizeof now);
}

}  // namespace msb::net
