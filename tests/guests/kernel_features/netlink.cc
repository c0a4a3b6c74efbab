// SPDX-License-Identifier: Apache-2.0

#include "netlink.h"

#include <arpa/inet.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>

namespace features {

NetlinkRequest::NetlinkRequest(std::uint16_t type, std::uint16_t flags) { next_message(type, flags); }

void NetlinkRequest::append(const void* bytes, std::size_t size) {
  const std::size_t padded = NLMSG_ALIGN(size);
  if (padded > buffer_.size() - used_) abort();  // a check's request never comes near the buffer's size
  if (size != 0) std::memcpy(buffer_.data() + used_, bytes, size);
  used_ += padded;
}

void NetlinkRequest::finish_message() {
  const auto length = static_cast<std::uint32_t>(used_ - message_);
  std::memcpy(buffer_.data() + message_ + offsetof(nlmsghdr, nlmsg_len), &length, sizeof length);
}

void NetlinkRequest::next_message(std::uint16_t type, std::uint16_t flags) {
  if (used_ != 0) finish_message();
  message_ = used_;
  nlmsghdr head{};
  head.nlmsg_type = type;
  head.nlmsg_flags = static_cast<std::uint16_t>(flags | NLM_F_REQUEST);
  head.nlmsg_seq = sequence_++;
  append(&head, sizeof head);
}

void NetlinkRequest::header(const void* bytes, std::size_t size) { append(bytes, size); }

void NetlinkRequest::attr(std::uint16_t type, const void* bytes, std::size_t size) {
  nlattr head{};
  head.nla_len = static_cast<std::uint16_t>(sizeof head + size);
  head.nla_type = type;
  append(&head, sizeof head);
  append(bytes, size);
}

void NetlinkRequest::attr_u32(std::uint16_t type, std::uint32_t value) { attr(type, &value, sizeof value); }

void NetlinkRequest::attr_be32(std::uint16_t type, std::uint32_t value) { attr_u32(type, htonl(value)); }

void NetlinkRequest::attr_text(std::uint16_t type, std::string_view text) {
  std::array<char, 64> copy{};
  const std::size_t n = std::min(text.size(), copy.size() - 1);
  std::memcpy(copy.data(), text.data(), n);
  attr(type, copy.data(), n + 1);
}

std::size_t NetlinkRequest::begin_nest(std::uint16_t type) {
  const std::size_t at = used_;
  attr(static_cast<std::uint16_t>(type | NLA_F_NESTED), nullptr, 0);
  return at;
}

void NetlinkRequest::end_nest(std::size_t at) {
  const auto length = static_cast<std::uint16_t>(used_ - at);
  std::memcpy(buffer_.data() + at, &length, sizeof length);
}

int NetlinkRequest::send(int protocol, int acks) {
  finish_message();
  const int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol);
  if (fd < 0) return errno;
  const timeval patience{5, 0};
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  int result = 0;
  if (::send(fd, buffer_.data(), used_, 0) < 0) result = errno;
  // Replies other than acknowledgements (COMPAT_GET answers with data) count as success and are skipped.
  for (int seen = 0; result == 0 && seen < acks;) {
    alignas(NLMSG_ALIGNTO) std::array<unsigned char, 8192> reply{};
    const ssize_t n = recv(fd, reply.data(), reply.size(), 0);
    if (n < 0) {
      result = errno;
      break;
    }
    std::size_t at = 0;
    const auto size = static_cast<std::size_t>(n);
    while (size - at >= sizeof(nlmsghdr)) {
      nlmsghdr head{};
      std::memcpy(&head, reply.data() + at, sizeof head);
      if (head.nlmsg_len < sizeof head || head.nlmsg_len > size - at) break;
      // A dump ends with DONE, everything else with ERROR; both carry a code, 0 for success.
      const bool last = head.nlmsg_type == NLMSG_ERROR || head.nlmsg_type == NLMSG_DONE;
      if (last && head.nlmsg_len >= sizeof head + sizeof(int)) {
        int code = 0;
        std::memcpy(&code, reply.data() + at + sizeof head, sizeof code);
        seen++;
        if (code != 0 && result == 0) result = -code;
      }
      at += std::min<std::size_t>(NLMSG_ALIGN(head.nlmsg_len), size - at);
    }
  }
  close(fd);
  return result;
}

}  // namespace features
