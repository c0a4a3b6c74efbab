// SPDX-License-Identifier: Apache-2.0
// What msb-net is told at its start: one JSON document on the descriptor --config-fd, read to its end.
//
//   {"version":1,
//    "guest":{"mac":"02:6d:73:62:00:02","gateway_mac":"02:6d:73:62:00:01","mtu":65520,
//             "ipv4":{"address":"172.16.0.2","prefix":30,"gateway":"172.16.0.1"}|null,
//             "ipv6":{"address":"fd42:6d73:62::2","prefix":64,"gateway":"fd42:6d73:62::1"}|null},
//    "vnet_hdr":false,
//    "policy":{"profiles":["public"],"rules":["deny@meta",…],"default_egress":"allow"|"deny"|null,
//              "default_ingress":…,"strict":true,"observe":false,"nat64_prefixes":["64:ff9b::/96"]},
//    "dns":{"upstreams":["9.9.9.9","[2620:fe::fe]:53"],"timeout_ms":5000,
//           "routes":[{"suffix":"corp.example","upstreams":["10.0.0.53"]}],"rebind_protection":true,
//           "max_queries_per_s":200,"hosts":[{"name":"db.test","addresses":["10.1.2.3"]}]},
//    "ports":[{"bind":"127.0.0.1","host":8080,"guest":80,"protocol":"tcp","count":1}],
//    "limits":{"egress_bytes_per_s":0,"egress_burst_bytes":0,"egress_packets_per_s":0,"egress_burst_packets":0,
//              "ingress_…":…,"max_connections":0,"max_total_bytes":0,"buffer_bytes":67108864,
//              "pcap_bytes":1073741824},
//    "proxy":{"kind":"socks5"|"socks4"|"http","address":"10.0.0.1:1080","user":""}|null,
//    "host_alias":"host.msb.internal"}
//
// Every member but version and guest may be left out. Unknown members are refused. 0 in a limit means no
// limit. Ports may be text too: "[BIND:]HOST:GUEST[/tcp|/udp]" with ranges "8000-8010:80-90".
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/hostname.h"
#include "base/ip_address.h"
#include "base/json.h"
#include "base/result.h"
#include "proto/net_rule.h"

namespace msb::proto {

// How much of the host's resolv.conf is looked at.
inline constexpr std::size_t kMaxResolvConf = std::size_t{32} << 10;

struct NetFamilySpec {
  IpAddress address;
  std::uint8_t prefix = 0;
  IpAddress gateway;
};

struct NetGuestSpec {
  std::array<std::uint8_t, 6> mac{0x02, 0x6d, 0x73, 0x62, 0x00, 0x02};
  std::array<std::uint8_t, 6> gateway_mac{0x02, 0x6d, 0x73, 0x62, 0x00, 0x01};
  std::uint16_t mtu = 65520;  // 1280..65520
  std::optional<NetFamilySpec> ipv4;
  std::optional<NetFamilySpec> ipv6;
};

enum class NetProfile : std::uint8_t { kPublic, kPrivate, kHost, kAll, kNone };
[[nodiscard]] Result<NetProfile> parse_net_profile(std::string_view text);
[[nodiscard]] std::string_view net_profile_name(NetProfile profile);

// With no default given, `rules` stand before what the profiles stand for. With a default given, the rules
// stand alone and `profiles` must be empty; the default not given is then deny for egress and allow for
// ingress.
struct NetPolicySpec {
  std::vector<NetProfile> profiles;  // empty: public, unless a default is given
  std::vector<NetRule> rules;
  std::optional<NetAction> default_egress;
  std::optional<NetAction> default_ingress;
  bool strict = true;  // a name rule allows only what TLS SNI or HTTP Host confirms
  bool observe =
      false;  // let everything pass that could be allowed at all, and note the allow-list it needed
  std::vector<IpPrefix> nat64_prefixes;  // /96, besides 64:ff9b::/96
};

struct NetEndpoint {
  IpAddress address;
  std::uint16_t port = 0;
};

struct NetDnsSpec {
  struct Route {
    Hostname suffix;
    std::vector<NetEndpoint> upstreams;
  };
  struct Host {
    Hostname name;
    std::vector<IpAddress> addresses;
  };
  std::vector<NetEndpoint> upstreams;  // empty: those of the host's resolver configuration
  std::vector<Route> routes;
  std::vector<Host> hosts;
  std::uint32_t timeout_ms = 5000;
  std::uint32_t max_queries_per_s = 200;  // sustained; bursts of five times as many
  bool rebind_protection = true;
};

struct NetPortSpec {
  IpAddress bind = IpAddress::v4(0x7f000001);
  std::uint16_t host = 0;  // 0: the system chooses; the choice is reported
  std::uint16_t guest = 0;
  NetProtocol protocol = NetProtocol::kTcp;  // kTcp or kUdp
  std::uint16_t count = 1;                   // consecutive ports from both
};
// "[BIND:]HOST:GUEST[/tcp|/udp]", BIND an IPv4 address or "[IPv6]", HOST and GUEST numbers or equal-sized
// ranges.
[[nodiscard]] Result<NetPortSpec> parse_net_port(std::string_view text);
[[nodiscard]] Result<NetPortSpec> parse_net_port(const JsonView& value);

struct NetRateSpec {
  std::uint64_t bytes_per_s = 0;
  std::uint64_t burst_bytes = 0;
  std::uint64_t packets_per_s = 0;
  std::uint64_t burst_packets = 0;
};

struct NetLimitsSpec {
  NetRateSpec egress;
  NetRateSpec ingress;
  std::uint32_t max_connections = 0;       // TCP and UDP flows together; 0: kNetDefaultFlows
  std::uint64_t max_total_bytes = 0;       // payload, both ways; reaching it ends every flow
  std::uint64_t buffer_bytes = 64U << 20;  // all stream buffers together
  std::uint64_t pcap_bytes = 1U << 30;     // the capture's file, after which it stops
};
inline constexpr std::uint32_t kNetDefaultFlows = 32768;

struct NetProxySpec {
  enum class Kind : std::uint8_t { kSocks4, kSocks5, kHttp };
  Kind kind = Kind::kSocks5;
  NetEndpoint address;
  std::string user;  // the password comes on --secrets-fd: {"proxy_password":"…"}
};

struct NetSpec {
  NetGuestSpec guest;
  bool vnet_hdr = false;  // a 12-byte virtio-net header stands before every frame
  NetPolicySpec policy;
  NetDnsSpec dns;
  std::vector<NetPortSpec> ports;
  NetLimitsSpec limits;
  std::optional<NetProxySpec> proxy;
  std::string host_alias = "host.msb.internal";

  // kInvalid with the path of the member that is wrong. A policy that cannot be enforced is refused here.
  [[nodiscard]] static Result<NetSpec> parse(std::string_view json);
};

// The member "policy" alone, as the control operation that replaces it sends it.
[[nodiscard]] Result<NetPolicySpec> parse_net_policy(const JsonView& value);

}  // namespace msb::proto
