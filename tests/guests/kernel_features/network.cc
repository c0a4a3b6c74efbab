// SPDX-License-Identifier: Apache-2.0
//
// Sockets, virtual interfaces and traffic control. Each check works in a network namespace of its own.

#include "check.h"
#include "netlink.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <linux/inet_diag.h>
#include <linux/netlink_diag.h>
#include <linux/packet_diag.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>
#include <linux/vm_sockets.h>
#include <linux/vm_sockets_diag.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <string>

namespace features {
namespace {

constexpr std::uint16_t kCreate = NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;

std::string verdict(int code, std::string_view what) {
  return code == 0 ? std::string() : std::string(what) + ": " + std::strerror(code);
}

// ip link add NAME [link PARENT] type KIND; `extra` appends the kind's own attributes.
int add_link(const char* kind, const char* name, const char* parent, void (*extra)(NetlinkRequest&)) {
  NetlinkRequest request(RTM_NEWLINK, kCreate);
  const ifinfomsg head{};
  request.header(&head, sizeof head);
  request.attr_text(IFLA_IFNAME, name);
  if (parent != nullptr) request.attr_u32(IFLA_LINK, if_nametoindex(parent));
  const std::size_t info = request.begin_nest(IFLA_LINKINFO);
  request.attr_text(IFLA_INFO_KIND, kind);
  if (extra != nullptr) {
    const std::size_t data = request.begin_nest(IFLA_INFO_DATA);
    extra(request);
    request.end_nest(data);
  }
  request.end_nest(info);
  return request.send(NETLINK_ROUTE);
}

std::string fresh_network() { return want_ok(unshare(CLONE_NEWNET), "unshare of the network"); }

std::string virtual_links() {
  if (std::string error = fresh_network(); !error.empty()) return error;
  struct Link {
    const char* kind;
    const char* name;
    const char* parent;
    void (*extra)(NetlinkRequest&);
  };
  constexpr std::array<Link, 7> links{{
      {"dummy", "d0", nullptr, nullptr},
      {"bridge", "b0", nullptr, nullptr},
      {"veth", "v0", nullptr, nullptr},
      {"vlan", "d0.5", "d0",
       [](NetlinkRequest& r) {
         const std::uint16_t id = 5;
         r.attr(IFLA_VLAN_ID, &id, sizeof id);
       }},
      {"macvlan", "m0", "d0", nullptr},
      {"ipvlan", "i0", "v0", nullptr},
      {"vxlan", "x0", nullptr, [](NetlinkRequest& r) { r.attr_u32(IFLA_VXLAN_ID, 42); }},
  }};
  for (const Link& link : links)
    if (const int code = add_link(link.kind, link.name, link.parent, link.extra); code != 0)
      return verdict(code, std::string("link of kind ") + link.kind);
  return {};
}

std::string tun_device() {
  if (std::string error = fresh_network(); !error.empty()) return error;
  const int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
  if (fd < 0) return failed("open /dev/net/tun");
  ifreq request{};
  std::strncpy(request.ifr_name, "t0", IFNAMSIZ - 1);
  request.ifr_flags = IFF_TUN | IFF_NO_PI;
  return want_ok(ioctl(fd, TUNSETIFF, &request), "TUNSETIFF");
}

std::string socket_families() {
  struct Family {
    const char* name;
    int family;
    int type;
    int protocol;
  };
  const std::array<Family, 10> families{{{"IPv4 TCP", AF_INET, SOCK_STREAM, 0},
                                         {"IPv4 UDP", AF_INET, SOCK_DGRAM, 0},
                                         {"IPv4 raw", AF_INET, SOCK_RAW, IPPROTO_ICMP},
                                         {"IPv6 TCP", AF_INET6, SOCK_STREAM, 0},
                                         {"IPv6 UDP", AF_INET6, SOCK_DGRAM, 0},
                                         {"Unix stream", AF_UNIX, SOCK_STREAM, 0},
                                         {"Unix seqpacket", AF_UNIX, SOCK_SEQPACKET, 0},
                                         {"packet", AF_PACKET, SOCK_RAW, htons(0x0003)},
                                         {"vsock", AF_VSOCK, SOCK_STREAM, 0},
                                         {"netlink uevent", AF_NETLINK, SOCK_RAW, NETLINK_KOBJECT_UEVENT}}};
  for (const Family& f : families)
    if (socket(f.family, f.type | SOCK_CLOEXEC, f.protocol) < 0)
      return failed(std::string("socket ") + f.name);
  return {};
}

std::string vsock_device() {
  const int fd = open("/dev/vsock", O_RDONLY | O_CLOEXEC);
  if (fd < 0) return failed("open /dev/vsock");
  unsigned cid = 0;
  return want_ok(ioctl(fd, IOCTL_VM_SOCKETS_GET_LOCAL_CID, &cid), "GET_LOCAL_CID");
}

std::string congestion_control() {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  for (const char* name : {"bbr", "cubic", "reno"})
    if (setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name, static_cast<socklen_t>(std::strlen(name))) < 0)
      return failed(std::string("TCP_CONGESTION ") + name);
  const std::string standard = read_file("/proc/sys/net/ipv4/tcp_congestion_control");
  return standard == "cubic\n" ? "" : "the default is " + standard;
}

std::string policy_routing() {
  if (std::string error = fresh_network(); !error.empty()) return error;
  for (const unsigned char family : std::array<unsigned char, 2>{AF_INET, AF_INET6}) {
    NetlinkRequest request(RTM_NEWRULE, kCreate);
    rtmsg head{};
    head.rtm_family = family;
    head.rtm_table = 100;
    head.rtm_type = RTN_UNICAST;
    request.header(&head, sizeof head);
    if (const int code = request.send(NETLINK_ROUTE); code != 0)
      return verdict(code, family == AF_INET ? "IPv4 rule" : "IPv6 rule");
  }
  return {};
}

// Whether the kernel knows a queueing discipline: an unknown one is ENOENT, a known one without its options
// may be refused in other ways.
std::string queueing_disciplines() {
  if (std::string error = fresh_network(); !error.empty()) return error;
  if (const int code = add_link("dummy", "d0", nullptr, nullptr); code != 0)
    return verdict(code, "dummy link");
  for (const char* kind : {"htb", "tbf", "fq", "fq_codel", "netem", "ingress", "clsact"}) {
    NetlinkRequest request(RTM_NEWQDISC, NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE);
    tcmsg head{};
    head.tcm_ifindex = static_cast<int>(if_nametoindex("d0"));
    const bool ingress = std::string_view(kind) == "ingress" || std::string_view(kind) == "clsact";
    head.tcm_parent = ingress ? TC_H_CLSACT : TC_H_ROOT;
    request.header(&head, sizeof head);
    request.attr_text(TCA_KIND, kind);
    if (const int code = request.send(NETLINK_ROUTE); code == ENOENT || code == EOPNOTSUPP)
      return verdict(code, std::string("qdisc ") + kind);
  }
  return {};
}

std::string classifiers() {
  if (std::string error = fresh_network(); !error.empty()) return error;
  if (const int code = add_link("dummy", "d0", nullptr, nullptr); code != 0)
    return verdict(code, "dummy link");
  NetlinkRequest qdisc(RTM_NEWQDISC, NLM_F_ACK | NLM_F_CREATE);
  tcmsg head{};
  head.tcm_ifindex = static_cast<int>(if_nametoindex("d0"));
  head.tcm_parent = TC_H_CLSACT;
  head.tcm_handle = TC_H_MAKE(TC_H_CLSACT, 0);
  qdisc.header(&head, sizeof head);
  qdisc.attr_text(TCA_KIND, "clsact");
  if (const int code = qdisc.send(NETLINK_ROUTE); code != 0) return verdict(code, "clsact");
  for (const char* kind : {"u32", "bpf"}) {
    NetlinkRequest filter(RTM_NEWTFILTER, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL);
    tcmsg at = head;
    at.tcm_handle = 0;
    at.tcm_parent = TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS);
    at.tcm_info = TC_H_MAKE(1U << 16, htons(0x0003));
    filter.header(&at, sizeof at);
    filter.attr_text(TCA_KIND, kind);
    if (const int code = filter.send(NETLINK_ROUTE); code == ENOENT)
      return verdict(code, std::string("classifier ") + kind);
  }
  return {};
}

// Dumps the sockets of one family; a family without its diag part answers ENOENT.
template <typename Request>
int dump_sockets(const Request& body) {
  NetlinkRequest request(SOCK_DIAG_BY_FAMILY, NLM_F_DUMP);
  request.header(&body, sizeof body);
  return request.send(NETLINK_SOCK_DIAG);
}

std::string socket_diagnostics() {
  for (const unsigned char protocol : std::array<unsigned char, 3>{IPPROTO_TCP, IPPROTO_UDP, IPPROTO_RAW}) {
    inet_diag_req_v2 body{};
    body.sdiag_family = AF_INET;
    body.sdiag_protocol = protocol;
    body.idiag_states = ~0U;
    if (const int code = dump_sockets(body); code != 0)
      return verdict(code, "dump of IP protocol " + std::to_string(protocol));
  }
  unix_diag_req local{};
  local.sdiag_family = AF_UNIX;
  local.udiag_states = ~0U;
  if (const int code = dump_sockets(local); code != 0) return verdict(code, "dump of Unix sockets");
  packet_diag_req packet{};
  packet.sdiag_family = AF_PACKET;
  if (const int code = dump_sockets(packet); code != 0) return verdict(code, "dump of packet sockets");
  netlink_diag_req netlink{};
  netlink.sdiag_family = AF_NETLINK;
  netlink.sdiag_protocol = NDIAG_PROTO_ALL;
  if (const int code = dump_sockets(netlink); code != 0) return verdict(code, "dump of netlink sockets");
  vsock_diag_req vsock{};
  vsock.sdiag_family = AF_VSOCK;
  vsock.vdiag_states = ~0U;
  return verdict(dump_sockets(vsock), "dump of vsock sockets");
}

constexpr std::array<Check, 9> kChecks{{
    {"socket_families", socket_families},
    {"vsock", vsock_device},
    {"links_dummy_bridge_veth_vlan_macvlan_ipvlan_vxlan", virtual_links},
    {"tun", tun_device},
    {"tcp_bbr_cubic", congestion_control},
    {"policy_routing", policy_routing},
    {"qdiscs_htb_tbf_fq_fq_codel_netem_ingress_clsact", queueing_disciplines},
    {"classifiers_u32_bpf", classifiers},
    {"socket_diag", socket_diagnostics},
}};

}  // namespace

std::span<const Check> network_checks() { return kChecks; }

}  // namespace features
