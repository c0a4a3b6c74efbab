// SPDX-License-Identifier: Apache-2.0
#include "base/socket.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <array>
#include <cstdio>
#include <cstring>

namespace msb {
namespace {

Result<sockaddr_un> address_in(int dir_fd, const std::string& name) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const int length =
      std::snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d/%s", dir_fd, name.c_str());
  if (length < 0 || static_cast<std::size_t>(length) >= sizeof address.sun_path) {
    return make_error(Errc::kInvalid, "socket name %s is too long", name.c_str());
  }
  return address;
}

}  // namespace

Result<std::pair<UniqueFd, UniqueFd>> socket_pair(int type) {
  int fds[2];
  if (::socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, fds) != 0) return sys_error("create socket pair");
  return std::pair{UniqueFd(fds[0]), UniqueFd(fds[1])};
}

Result<UniqueFd> listen_unix(int dir_fd, const std::string& name, int backlog) {
  MSB_ASSIGN(const sockaddr_un address, address_in(dir_fd, name));
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return sys_error("create socket");
  ::unlinkat(dir_fd, name.c_str(), 0);
  // The mode of the socket file comes from the socket's own mode at bind: no window in which others may
  // connect.
  if (::fchmod(fd.get(), 0600) != 0) return sys_error("set mode of socket " + name);
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    return sys_error("bind socket " + name);
  }
  if (::listen(fd.get(), backlog) != 0) return sys_error("listen on socket " + name);
  return fd;
}

Result<UniqueFd> connect_unix(int dir_fd, const std::string& name, int flags) {
  MSB_ASSIGN(const sockaddr_un address, address_in(dir_fd, name));
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | flags, 0));
  if (!fd) return sys_error("create socket");
  while (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    if (errno == EINTR) continue;
    return sys_error("connect to socket " + name);
  }
  return fd;
}

Status send_with_fds(int socket, ByteView data, std::span<const int> fds) {
  MSB_CHECK(!data.empty() && fds.size() <= kMaxPassedFds);
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int) * kMaxPassedFds)> control{};
  iovec io{const_cast<std::uint8_t*>(data.data()), data.size()};
  msghdr message{};
  message.msg_iov = &io;
  message.msg_iovlen = 1;
  if (!fds.empty()) {
    message.msg_control = control.data();
    message.msg_controllen = CMSG_SPACE(fds.size_bytes());
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(fds.size_bytes());
    std::memcpy(CMSG_DATA(header), fds.data(), fds.size_bytes());
  }
  for (;;) {
    const ssize_t sent = ::sendmsg(socket, &message, MSG_NOSIGNAL);
    if (sent >= 0) {
      if (static_cast<std::size_t>(sent) == data.size()) return {};
      return make_error(Errc::kSystem, "send message: only %zd of %zu bytes went out", sent, data.size());
    }
    if (errno != EINTR) return sys_error("send message");
  }
}

Result<ReceivedMessage> receive_with_fds(int socket, std::size_t max_bytes) {
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int) * kMaxPassedFds)> control{};
  ReceivedMessage out;
  out.data.resize(max_bytes);
  iovec io{out.data.data(), out.data.size()};
  msghdr message{};
  message.msg_iov = &io;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  ssize_t got = 0;
  do {
    got = ::recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
  } while (got < 0 && errno == EINTR);
  if (got < 0) return sys_error("receive message");
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr; header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(header) + i * sizeof(int), sizeof fd);
      out.fds.emplace_back(fd);
    }
  }
  if ((message.msg_flags & (MSG_CTRUNC | MSG_TRUNC)) != 0) {
    return make_error(Errc::kProtocol, "receive message: it was truncated");
  }
  out.data.resize(static_cast<std::size_t>(got));
  return out;
}

Status set_nonblocking(int fd, bool on) {
  const int flags = ::fcntl(fd, F_GETFL);
  if (flags < 0 || ::fcntl(fd, F_SETFL, on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK) != 0) {
    return sys_error("set descriptor flags");
  }
  return {};
}

Status keep_on_exec(int fd) {
  if (::fcntl(fd, F_SETFD, 0) != 0) return sys_error("clear close-on-exec");
  return {};
}

}  // namespace msb
