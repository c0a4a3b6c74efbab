// SPDX-License-Identifier: Apache-2.0
#include "net/host_addresses.h"

#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>

#include <array>
#include <cstring>

#include "base/bytes.h"
#include "base/log.h"

namespace msb::net {
namespace {

struct DumpRequest {
  nlmsghdr header{};
  rtmsg route{};
};

// Adds the destination of one route message if it is a local one. Lengths come from the kernel; they are
// checked all the same.
void take_route(ByteView message, std::vector<IpPrefix>& out) {
  if (message.size() < sizeof(rtmsg)) return;
  rtmsg route{};
  std::memcpy(&route, message.data(), sizeof route);
  const bool v4 = route.rtm_family == AF_INET;
  if (route.rtm_type != RTN_LOCAL && route.rtm_type != RTN_ANYCAST) return;
  if (!v4 && route.rtm_family != AF_INET6) return;
  std::size_t at = NLMSG_ALIGN(sizeof(rtmsg));
  while (at < message.size() && message.size() - at >= sizeof(rtattr)) {
    rtattr attribute{};
    std::memcpy(&attribute, message.data() + at, sizeof attribute);
    if (attribute.rta_len < sizeof(rtattr) || attribute.rta_len > message.size() - at) return;
    if (attribute.rta_type == RTA_DST) {
      const auto address =
          IpAddress::from_bytes(message.subspan(at + sizeof(rtattr), attribute.rta_len - sizeof(rtattr)));
      if (!address || address->is_v4() != v4) return;
      if (const auto prefix = IpPrefix::make(*address, route.rtm_dst_len)) out.push_back(*prefix);
      return;
    }
    at += RTA_ALIGN(attribute.rta_len);
  }
}

Status dump(int family, std::vector<IpPrefix>& out) {
  UniqueFd socket(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
  if (!socket) return sys_error("open rtnetlink");
  DumpRequest request;
  request.header.nlmsg_len = sizeof request;
  request.header.nlmsg_type = RTM_GETROUTE;
  request.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
  request.header.nlmsg_seq = 1;
  request.route.rtm_family = static_cast<unsigned char>(family);
  if (::send(socket.get(), &request, sizeof request, 0) < 0) return sys_error("ask for routes");
  Bytes buffer(256 * 1024);
  for (int round = 0; round < 100'000; ++round) {
    const ssize_t got = ::recv(socket.get(), buffer.data(), buffer.size(), 0);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return sys_error("read routes");
    ByteView rest = ByteView(buffer).first(static_cast<std::size_t>(got));
    while (rest.size() >= sizeof(nlmsghdr)) {
      nlmsghdr header{};
      std::memcpy(&header, rest.data(), sizeof header);
      if (header.nlmsg_len < sizeof header || header.nlmsg_len > rest.size()) break;
      if (header.nlmsg_type == NLMSG_DONE) return {};
      if (header.nlmsg_type == NLMSG_ERROR)
        return make_error(Errc::kSystem, "the kernel refused to list routes");
      if (header.nlmsg_type == RTM_NEWROUTE)
        take_route(rest.subspan(sizeof header, header.nlmsg_len - sizeof header), out);
      rest = rest.subspan(std::min<std::size_t>(NLMSG_ALIGN(header.nlmsg_len), rest.size()));
    }
  }
  return make_error(Errc::kLimit, "the list of routes does not end");
}

}  // namespace

Result<std::unique_ptr<HostAddresses>> HostAddresses::create(EventLoop& loop, Listener listener) {
  UniqueFd monitor(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE));
  if (!monitor) return sys_error("open rtnetlink");
  sockaddr_nl address{};
  address.nl_family = AF_NETLINK;
  address.nl_groups = RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_ROUTE | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR;
  if (::bind(monitor.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) < 0)
    return sys_error("watch routes");
  std::unique_ptr<HostAddresses> out(new HostAddresses(loop, std::move(monitor), std::move(listener)));
  MSB_TRY(out->refresh());
  HostAddresses* self = out.get();
  MSB_ASSIGN(out->token_,
             loop.add(out->monitor_.get(), EPOLLIN, [self](std::uint32_t) { self->on_change(); }));
  return out;
}

HostAddresses::~HostAddresses() {
  loop_.cancel_timer(timer_);
  loop_.remove(token_);
}

Status HostAddresses::refresh() {
  std::vector<IpPrefix> prefixes;
  MSB_TRY(dump(AF_INET, prefixes));
  MSB_TRY(dump(AF_INET6, prefixes));
  listener_(prefixes);
  return {};
}

void HostAddresses::on_change() {
  std::array<std::uint8_t, 8192> scratch{};
  for (int i = 0; i < 64; ++i) {
    // An overrun (ENOBUFS) is a change like any other.
    if (::recv(monitor_.get(), scratch.data(), scratch.size(), MSG_DONTWAIT) < 0 && errno == EAGAIN) break;
  }
  if (timer_ != 0) return;
  // Changes come in bursts: read the new state once they pause.
  timer_ = loop_.add_timer_after(std::chrono::milliseconds(20), [this] {
    timer_ = 0;
    if (auto status = refresh(); !status) MSB_WARN("host addresses: %s", status.error().text.c_str());
  });
}

}  // namespace msb::net
