// SPDX-License-Identifier: Apache-2.0
// Everything of msb-net put together: built from a specification and descriptors, run on one event loop.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "net/dns_proxy.h"
#include "net/host_addresses.h"
#include "net/pcap.h"
#include "net/port_publisher.h"
#include "net/stack.h"

namespace msb::net {

class NetProcess {
 public:
  struct Parts {
    std::unique_ptr<FramePort> port;
    UniqueFd audit;  // may be none, as may what follows
    UniqueFd pcap;
    std::string proxy_password;
    // Given: these are the host's own addresses, and the system's are not watched.
    std::optional<std::vector<IpPrefix>> host_addresses;
  };
  // Opens everything that needs rights: listeners, rtnetlink.
  [[nodiscard]] static Result<std::unique_ptr<NetProcess>> create(EventLoop& loop, const proto::NetSpec& spec,
                                                                  Parts parts);
  // Frames are taken from here on; `on_end` once the other end has gone.
  [[nodiscard]] Status start(std::function<void(Status)> on_end);

  // One control request (a JSON object with "op"); the reply's JSON. Errors carry the reason.
  //   {"op":"stats"} {"op":"flows"} {"op":"ports"} {"op":"ports_add","port":"8080:80"}
  //   {"op":"ports_remove","port":…}
  //   {"op":"policy","policy":{…}} {"op":"explain","target":"example.com:443","protocol":"tcp"}
  //   {"op":"observed"} {"op":"resolv_conf","text":…}: the host's, for when the specification names no name
  //   servers
  [[nodiscard]] Result<std::string> control(std::string_view request);
  // {"ports":[{"bind","host","guest","protocol"}…],"warnings":[…]}: what the supervisor is told at the start.
  [[nodiscard]] std::string ready_json() const;
  [[nodiscard]] DnsProxy& dns() { return *dns_; }

 private:
  NetProcess() = default;
  void write_stats(JsonWriter& out) const;
  void capture(std::span<const ByteView> parts);
  void write_ports(JsonWriter& out, const std::vector<PortPublisher::Published>& ports) const;
  [[nodiscard]] Status replace_policy(const JsonView& request);
  bool default_upstreams_ = false;  // the name servers are the host's
  SystemRandom random_;
  std::unique_ptr<FramePort> port_;
  std::unique_ptr<GuestLink> link_;
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<HostAddresses> host_addresses_;
  std::unique_ptr<DnsProxy> dns_;
  std::unique_ptr<TcpService> tcp_;
  std::unique_ptr<UdpRelay> udp_;
  std::unique_ptr<IcmpRelay> icmp_;
  std::unique_ptr<PortPublisher> publisher_;
  std::unique_ptr<Stack> stack_;
  std::optional<PcapWriter> pcap_;
};

// The engine's classifier for a specification: its gateways and translators, without the host's addresses
// yet.
[[nodiscard]] AddressClassifier make_classifier(const proto::NetSpec& spec);
// What the policy says about "HOST:PORT", as JSON: the lookup if HOST is a name, and the connection.
[[nodiscard]] Result<std::string> explain(Engine& engine, std::string_view target, std::string_view protocol);

}  // namespace msb::net
