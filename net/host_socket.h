// SPDX-License-Identifier: Apache-2.0
// Host sockets by address value: the one place where our addresses meet sockaddr.
#pragma once

#include <sys/socket.h>

#include <cstdint>
#include <utility>

#include "base/ip_address.h"
#include "base/result.h"
#include "base/unique_fd.h"

namespace msb::net {

struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t length = 0;
  [[nodiscard]] const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
  [[nodiscard]] sockaddr* get() { return reinterpret_cast<sockaddr*>(&storage); }
};
[[nodiscard]] SocketAddress to_socket_address(const IpAddress& address, std::uint16_t port);
// Address and port of an IPv4 or IPv6 socket address; mapped IPv4 is unmapped. Unspecified for other
// families.
[[nodiscard]] std::pair<IpAddress, std::uint16_t> from_socket_address(const SocketAddress& address);
[[nodiscard]] std::pair<IpAddress, std::uint16_t> local_endpoint(int socket);

// A non-blocking, close-on-exec socket. `type`: SOCK_STREAM or SOCK_DGRAM; `protocol`: 0, or an ICMP one.
[[nodiscard]] Result<UniqueFd> open_socket(IpAddress::Family family, int type, int protocol = 0);
// Starts to connect. 0, EINPROGRESS, or the errno of the failure.
[[nodiscard]] int start_connect(int socket, const IpAddress& address, std::uint16_t port);
// The pending error of a socket (SO_ERROR), cleared by reading.
[[nodiscard]] int take_socket_error(int socket);
// TCP: no Nagle delay, keep-alive probes to the outside.
void tune_stream(int socket);
// Closing will send a reset instead of a FIN.
void make_abortive(int socket);

}  // namespace msb::net
