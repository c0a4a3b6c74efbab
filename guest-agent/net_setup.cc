// SPDX-License-Identifier: Apache-2.0
#include "guest-agent/net_setup.h"

#include <arpa/inet.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sys/socket.h>

#include <array>
#include <charconv>
#include <cstring>
#include <optional>

#include "base/unique_fd.h"

namespace msb::agent {
namespace {

// One rtnetlink request: header, fixed part, attributes, each padded to four bytes.
class Request {
 public:
  template <typename Body>
  Request(std::uint16_t type, std::uint16_t flags, const Body& body) {
    nlmsghdr header{};
    header.nlmsg_type = type;
    header.nlmsg_flags = static_cast<std::uint16_t>(NLM_F_REQUEST | NLM_F_ACK | flags);
    put(&header, sizeof header);
    put(&body, sizeof body);
  }
  void attribute(std::uint16_t type, const void* data, std::size_t size) {
    rtattr attribute{};
    attribute.rta_type = type;
    attribute.rta_len = static_cast<std::uint16_t>(sizeof attribute + size);
    put(&attribute, sizeof attribute);
    put(data, size);
  }
  [[nodiscard]] ByteView finish() {
    const auto length = static_cast<std::uint32_t>(bytes_.size());
    std::memcpy(bytes_.data() + offsetof(nlmsghdr, nlmsg_len), &length, sizeof length);
    return bytes_;
  }

 private:
  void put(const void* data, std::size_t size) {
    const auto* raw = static_cast<const std::uint8_t*>(data);
    bytes_.insert(bytes_.end(), raw, raw + size);
    bytes_.resize((bytes_.size() + 3) & ~std::size_t{3});
  }
  Bytes bytes_;
};

class Netlink {
 public:
  [[nodiscard]] static Result<Netlink> open() {
    UniqueFd socket(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
    if (!socket) return sys_error("open a netlink socket");
    return Netlink(std::move(socket));
  }
  // Sends one request and waits for its acknowledgement.
  [[nodiscard]] Status run(Request request, const char* what) {
    const ByteView bytes = request.finish();
    if (::send(socket_.get(), bytes.data(), bytes.size(), 0) < 0) return sys_error(what);
    std::array<std::uint8_t, 4096> answer;
    const ssize_t got = ::recv(socket_.get(), answer.data(), answer.size(), 0);
    if (got < 0) return sys_error(what);
    struct {
      nlmsghdr header;
      int error;
    } reply;
    if (static_cast<std::size_t>(got) < sizeof reply)
      return make_error(Errc::kProtocol, "%s: short answer", what);
    std::memcpy(&reply, answer.data(), sizeof reply);
    if (reply.header.nlmsg_type != NLMSG_ERROR)
      return make_error(Errc::kProtocol, "%s: unexpected answer", what);
    if (reply.error != 0) return sys_error(what, -reply.error);
    return {};
  }

 private:
  explicit Netlink(UniqueFd socket) : socket_(std::move(socket)) {}
  UniqueFd socket_;
};

Request link_up(unsigned index) {
  ifinfomsg body{};
  body.ifi_family = AF_UNSPEC;
  body.ifi_index = static_cast<int>(index);
  body.ifi_flags = IFF_UP;
  body.ifi_change = IFF_UP;
  return Request(RTM_NEWLINK, 0, body);
}

// "02:6d:73:62:00:02"
std::optional<std::array<std::uint8_t, 6>> parse_mac(std::string_view text) {
  std::array<std::uint8_t, 6> mac{};
  if (text.size() != mac.size() * 3 - 1) return std::nullopt;
  for (std::size_t i = 0; i < mac.size(); ++i) {
    const char* digits = text.data() + i * 3;
    const auto [end, error] = std::from_chars(digits, digits + 2, mac[i], 16);
    if (error != std::errc() || end != digits + 2) return std::nullopt;
    if (i + 1 < mac.size() && digits[2] != ':') return std::nullopt;
  }
  return mac;
}

Status add_address(Netlink& netlink, unsigned index, int family, const proto::GuestConfig::Address& address) {
  std::array<std::uint8_t, 16> raw{};
  const std::size_t size = family == AF_INET ? 4 : 16;
  if (::inet_pton(family, address.address.c_str(), raw.data()) != 1) {
    return make_error(Errc::kInvalid, "net: \"%s\" is not an address", address.address.c_str());
  }
  ifaddrmsg body{};
  body.ifa_family = static_cast<std::uint8_t>(family);
  body.ifa_prefixlen = address.prefix;
  body.ifa_index = index;
  // The link is a point to point one of our own: probing for duplicates would only delay the address.
  if (family == AF_INET6) body.ifa_flags = IFA_F_NODAD;
  Request request(RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, body);
  if (family == AF_INET) request.attribute(IFA_LOCAL, raw.data(), size);
  request.attribute(IFA_ADDRESS, raw.data(), size);
  MSB_TRY(netlink.run(std::move(request), "net: add the address"));
  if (address.gateway.empty()) return {};

  if (::inet_pton(family, address.gateway.c_str(), raw.data()) != 1) {
    return make_error(Errc::kInvalid, "net: \"%s\" is not a gateway address", address.gateway.c_str());
  }
  rtmsg route{};
  route.rtm_family = static_cast<std::uint8_t>(family);
  route.rtm_table = RT_TABLE_MAIN;
  route.rtm_protocol = RTPROT_BOOT;
  route.rtm_scope = RT_SCOPE_UNIVERSE;
  route.rtm_type = RTN_UNICAST;
  Request default_route(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, route);
  default_route.attribute(RTA_GATEWAY, raw.data(), size);
  default_route.attribute(RTA_OIF, &index, sizeof index);
  return netlink.run(std::move(default_route), "net: add the default route");
}

Status set_up_interface(Netlink& netlink, const proto::GuestConfig::Net& net) {
  const unsigned index = ::if_nametoindex(net.interface.c_str());
  if (index == 0) return sys_error("net: find interface " + net.interface);
  Request link = link_up(index);
  link.attribute(IFLA_MTU, &net.mtu, sizeof net.mtu);
  if (!net.mac.empty()) {
    const auto mac = parse_mac(net.mac);
    if (!mac) return make_error(Errc::kInvalid, "net: \"%s\" is not a hardware address", net.mac.c_str());
    link.attribute(IFLA_ADDRESS, mac->data(), mac->size());
  }
  MSB_TRY(netlink.run(std::move(link), "net: bring the interface up"));
  if (net.ipv4) MSB_TRY(add_address(netlink, index, AF_INET, *net.ipv4));
  if (net.ipv6) MSB_TRY(add_address(netlink, index, AF_INET6, *net.ipv6));
  return {};
}

// True for what may stand in a line of resolv.conf or hosts: a name or an address, nothing that ends the
// line.
bool is_plain_word(std::string_view word) {
  if (word.empty() || word.size() > 255) return false;
  for (const char c : word) {
    if (static_cast<unsigned char>(c) <= ' ' || c == '#' || c == 0x7f) return false;
  }
  return true;
}

}  // namespace

void set_up_network(const proto::GuestConfig::Net* net, std::vector<std::string>& warnings) {
  auto netlink = Netlink::open();
  if (!netlink.ok()) {
    warnings.push_back(netlink.error().text);
    return;
  }
  constexpr unsigned kLoopback = 1;  // the first device of every network namespace
  if (Status status = netlink->run(link_up(kLoopback), "net: bring loopback up"); !status.ok()) {
    warnings.push_back(std::move(status).error().text);
  }
  if (net == nullptr) return;
  if (Status status = set_up_interface(*netlink, *net); !status.ok()) {
    warnings.push_back(std::move(status).error().text);
  }
}

std::string resolv_conf(const proto::GuestConfig::Net& net) {
  std::string text;
  for (const std::string& server : net.dns) {
    if (is_plain_word(server)) text += "nameserver " + server + "\n";
  }
  std::string search;
  for (const std::string& domain : net.search) {
    if (is_plain_word(domain)) search += " " + domain;
  }
  if (!search.empty()) text += "search" + search + "\n";
  return text;
}

std::string hosts_file(const proto::GuestConfig& config) {
  std::string text =
      "127.0.0.1\tlocalhost\n"
      "::1\tlocalhost ip6-localhost ip6-loopback\n";
  if (is_plain_word(config.hostname)) {
    const bool addressed = config.net && config.net->ipv4 && is_plain_word(config.net->ipv4->address);
    text +=
        (addressed ? config.net->ipv4->address : std::string("127.0.1.1")) + "\t" + config.hostname + "\n";
  }
  for (const proto::GuestConfig::Host& host : config.hosts) {
    if (!is_plain_word(host.ip)) continue;
    std::string names;
    for (const std::string& name : host.names) {
      if (is_plain_word(name)) names += (names.empty() ? "" : " ") + name;
    }
    if (!names.empty()) text += host.ip + "\t" + names + "\n";
  }
  return text;
}

}  // namespace msb::agent
