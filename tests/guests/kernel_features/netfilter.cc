// SPDX-License-Identifier: Apache-2.0
//
// Firewalls: nftables over netlink, the xt matches under it that iptables-nft uses, and iptables-legacy's
// tables.

#include "check.h"
#include "netlink.h"

#include <arpa/inet.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nf_tables_compat.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter_ipv4/ip_tables.h>
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <string>

namespace features {
namespace {

constexpr std::uint16_t kAck = NLM_F_ACK;
constexpr std::uint16_t kCreate = NLM_F_ACK | NLM_F_CREATE;

constexpr std::uint16_t nft(std::uint16_t message) {
  return static_cast<std::uint16_t>(NFNL_SUBSYS_NFTABLES << 8 | message);
}

nfgenmsg family_header(unsigned char family, std::uint16_t resource = 0) {
  nfgenmsg head{};
  head.nfgen_family = family;
  head.version = NFNETLINK_V0;
  head.res_id = htons(resource);
  return head;
}

void put_header(NetlinkRequest& request, unsigned char family, std::uint16_t resource = 0) {
  const nfgenmsg head = family_header(family, resource);
  request.header(&head, sizeof head);
}

// A batch that makes table `t` with a base chain `c` and, if asked, a rule with one expression and no
// attributes.
int make_chain(unsigned char family, const char* type, std::uint32_t hook, std::uint32_t priority,
               const char* expression) {
  NetlinkRequest batch(NFNL_MSG_BATCH_BEGIN, 0);
  put_header(batch, AF_UNSPEC, NFNL_SUBSYS_NFTABLES);
  batch.next_message(nft(NFT_MSG_NEWTABLE), kCreate);
  put_header(batch, family);
  batch.attr_text(NFTA_TABLE_NAME, "t");
  batch.next_message(nft(NFT_MSG_NEWCHAIN), kCreate);
  put_header(batch, family);
  batch.attr_text(NFTA_CHAIN_TABLE, "t");
  batch.attr_text(NFTA_CHAIN_NAME, "c");
  batch.attr_text(NFTA_CHAIN_TYPE, type);
  const std::size_t nest = batch.begin_nest(NFTA_CHAIN_HOOK);
  batch.attr_be32(NFTA_HOOK_HOOKNUM, hook);
  batch.attr_be32(NFTA_HOOK_PRIORITY, priority);
  if (family == NFPROTO_NETDEV) batch.attr_text(NFTA_HOOK_DEV, "lo");
  batch.end_nest(nest);
  int acks = 2;
  if (expression != nullptr) {
    acks++;
    batch.next_message(nft(NFT_MSG_NEWRULE), static_cast<std::uint16_t>(kCreate | NLM_F_APPEND));
    put_header(batch, family);
    batch.attr_text(NFTA_RULE_TABLE, "t");
    batch.attr_text(NFTA_RULE_CHAIN, "c");
    const std::size_t list = batch.begin_nest(NFTA_RULE_EXPRESSIONS);
    const std::size_t element = batch.begin_nest(NFTA_LIST_ELEM);
    batch.attr_text(NFTA_EXPR_NAME, expression);
    const std::size_t data = batch.begin_nest(NFTA_EXPR_DATA);
    batch.end_nest(data);
    batch.end_nest(element);
    batch.end_nest(list);
  }
  batch.next_message(NFNL_MSG_BATCH_END, 0);
  put_header(batch, AF_UNSPEC, NFNL_SUBSYS_NFTABLES);
  return batch.send(NETLINK_NETFILTER, acks);
}

std::string fresh_network() { return want_ok(unshare(CLONE_NEWNET), "unshare of the network"); }

std::string nftables_families() {
  struct Chain {
    const char* name;
    unsigned char family;
    const char* type;
    std::uint32_t hook;
  };
  constexpr std::array<Chain, 8> chains{{{"ip filter", NFPROTO_IPV4, "filter", NF_INET_LOCAL_IN},
                                         {"ip nat", NFPROTO_IPV4, "nat", NF_INET_POST_ROUTING},
                                         {"ip route", NFPROTO_IPV4, "route", NF_INET_LOCAL_OUT},
                                         {"ip6 nat", NFPROTO_IPV6, "nat", NF_INET_POST_ROUTING},
                                         {"inet filter", NFPROTO_INET, "filter", NF_INET_FORWARD},
                                         {"inet nat", NFPROTO_INET, "nat", NF_INET_PRE_ROUTING},
                                         {"bridge filter", NFPROTO_BRIDGE, "filter", 2},
                                         {"netdev ingress", NFPROTO_NETDEV, "filter", NF_NETDEV_INGRESS}}};
  for (const Chain& chain : chains) {
    if (std::string error = fresh_network(); !error.empty()) return error;
    if (const int code = make_chain(chain.family, chain.type, chain.hook, 0, nullptr); code != 0)
      return std::string("chain ") + chain.name + ": " + std::strerror(code);
  }
  return {};
}

// An expression the kernel does not know is refused with ENOENT; a known one lacks its attributes here and is
// either accepted or refused in another way. A made-up name shows that the difference is real.
std::string nftables_expressions() {
  std::string missing;
  for (const char* name :
       {"ct",  "nat",    "masq",   "redir",     "reject",  "limit", "quota",   "log",    "hash",  "numgen",
        "fib", "socket", "tproxy", "connlimit", "counter", "meta",  "payload", "lookup", "match", "target"}) {
    if (std::string error = fresh_network(); !error.empty()) return error;
    const char* type = std::string_view(name) == "masq" ? "nat" : "filter";
    const int code = make_chain(NFPROTO_IPV4, type, NF_INET_POST_ROUTING, 0, name);
    if (code == ENOENT) missing += std::string(" ") + name;
  }
  if (std::string error = fresh_network(); !error.empty()) return error;
  if (make_chain(NFPROTO_IPV4, "filter", NF_INET_LOCAL_IN, 0, "nonsense") != ENOENT)
    return "a made-up expression was not refused";
  return missing.empty() ? "" : "missing:" + missing;
}

// Asks for a match (type 0) or target (1) as iptables-nft does.
int xt_revision(unsigned char family, const char* name, std::uint32_t revision, std::uint32_t type) {
  NetlinkRequest request(static_cast<std::uint16_t>(NFNL_SUBSYS_NFT_COMPAT << 8 | NFNL_MSG_COMPAT_GET), kAck);
  put_header(request, family);
  request.attr_text(NFTA_COMPAT_NAME, name);
  request.attr_be32(NFTA_COMPAT_REV, revision);
  request.attr_be32(NFTA_COMPAT_TYPE, type);
  return request.send(NETLINK_NETFILTER);
}

struct Extension {
  const char* name;
  std::uint32_t revision;
};

template <std::size_t kCount>
std::string have_extensions(const std::array<Extension, kCount>& list, std::uint32_t type) {
  std::string missing;
  for (const Extension& e : list)
    for (const unsigned char family : {NFPROTO_IPV4, NFPROTO_IPV6})
      if (xt_revision(family, e.name, e.revision, type) != 0)
        missing += std::string(" ") + e.name + (family == NFPROTO_IPV4 ? "(4)" : "(6)");
  if (xt_revision(NFPROTO_IPV4, "nonsense", 0, type) == 0) return "a made-up extension was found";
  return missing.empty() ? "" : "missing:" + missing;
}

std::string xt_matches() {
  constexpr std::array<Extension, 21> list{
      {{"addrtype", 1},  {"bpf", 1},     {"cgroup", 1},  {"comment", 0}, {"conntrack", 3}, {"hashlimit", 3},
       {"iprange", 1},   {"limit", 0},   {"mac", 0},     {"mark", 1},    {"multiport", 1}, {"owner", 1},
       {"physdev", 0},   {"pkttype", 0}, {"recent", 1},  {"set", 4},     {"socket", 3},    {"state", 0},
       {"statistic", 0}, {"string", 1},  {"connmark", 1}}};
  return have_extensions(list, 0);
}

std::string xt_targets() {
  constexpr std::array<Extension, 14> list{{{"MARK", 2},
                                            {"CONNMARK", 1},
                                            {"SNAT", 1},
                                            {"DNAT", 2},
                                            {"MASQUERADE", 0},
                                            {"REDIRECT", 0},
                                            {"NETMAP", 0},
                                            {"LOG", 0},
                                            {"NFLOG", 0},
                                            {"NFQUEUE", 3},
                                            {"TCPMSS", 0},
                                            {"TPROXY", 1},
                                            {"CT", 2},
                                            {"REJECT", 0}}};
  return have_extensions(list, 1);
}

std::string iptables_legacy_tables() {
  if (std::string error = fresh_network(); !error.empty()) return error;
  const int fd = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW);
  if (fd < 0) return failed("raw socket");
  for (const char* table : {"filter", "nat", "mangle", "raw"}) {
    ipt_getinfo info{};
    std::strncpy(info.name, table, sizeof info.name - 1);
    socklen_t size = sizeof info;
    if (getsockopt(fd, SOL_IP, IPT_SO_GET_INFO, &info, &size) < 0)
      return failed(std::string("table ") + table);
  }
  return {};
}

std::string conntrack_netlink() {
  NetlinkRequest request(static_cast<std::uint16_t>(NFNL_SUBSYS_CTNETLINK << 8 | 1 /* GET */), NLM_F_DUMP);
  put_header(request, AF_UNSPEC);
  const int code = request.send(NETLINK_NETFILTER);
  return code == 0 ? "" : std::string("dump of connections: ") + std::strerror(code);
}

std::string bridge_netfilter() {
  return exists("/proc/sys/net/bridge/bridge-nf-call-iptables") ? ""
                                                                : "no net.bridge.bridge-nf-call-iptables";
}

constexpr std::array<Check, 7> kChecks{{
    {"nftables_families", nftables_families},
    {"nftables_expressions", nftables_expressions},
    {"iptables_nft_matches", xt_matches},
    {"iptables_nft_targets", xt_targets},
    {"iptables_legacy_tables", iptables_legacy_tables},
    {"conntrack_netlink", conntrack_netlink},
    {"bridge_netfilter", bridge_netfilter},
}};

}  // namespace

std::span<const Check> netfilter_checks() { return kChecks; }

}  // namespace features
