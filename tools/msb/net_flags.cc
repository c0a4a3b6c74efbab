// SPDX-License-Identifier: Apache-2.0
#include "tools/msb/net_flags.h"

#include <array>
#include <string>

#include "proto/net_rule.h"
#include "proto/net_spec.h"
#include "supervisor/grammar.h"
#include "supervisor/quantities.h"
#include "tools/msb/cli.h"

namespace msb::cli {
namespace {

using supervisor::NetworkSpec;

enum NetOption : int {
  kNet = kFirstNetOption,
  kNetRule,
  kNetDefault,
  kNetDefaultEgress,
  kNetDefaultIngress,
  kNetStrict,
  kNoNetStrict,
  kNetObserve,
  kNoNet,
  kPort,
  kNameserver,
  kDnsTimeout,
  kNoRebindProtection,
  kEgressBandwidth,
  kEgressBandwidthBurst,
  kEgressOps,
  kEgressOpsBurst,
  kIngressBandwidth,
  kIngressBandwidthBurst,
  kIngressOps,
  kIngressOpsBurst,
  kMaxConnections,
  kMaxBytes,
  kProxy,
  kSocks4User,
  kSocks5User,
  kProxyPasswordFile,
  kPcap,
  kPcapLimit,
};

// The policy's options come first.
constexpr std::size_t kPolicyOptions = 8;
constexpr std::array<Option, 29> kOptions = {{
    {kNet, "net", 0, "PROFILE,...", "public (default), private, host; or all, or none"},
    {kNetRule, "net-rule", 0, "RULE,...",
     "Rules tried first, in order: deny@10.0.0.0/8, allow@*.debian.org:tcp:443"},
    {kNetDefault, "net-default", 0, "ACTION", "allow or deny what no rule decides; no profile then"},
    {kNetDefaultEgress, "net-default-egress", 0, "ACTION", "The same, for what it reaches"},
    {kNetDefaultIngress, "net-default-ingress", 0, "ACTION", "The same, for who reaches it"},
    {kNetStrict, "net-strict", 0, "", "Rules by name hold only where the flow shows the name (default)"},
    {kNoNetStrict, "no-net-strict", 0, "", "Rules by name hold for the addresses of that name, too"},
    {kNetObserve, "net-observe", 0, "", "Let pass what may pass at all, and note the rules it needed"},
    {kNoNet, "no-net", 0, "", "No network at all; with rules, nothing but what they allow"},
    {kPort, "port", 'p', "[BIND:]HOST:GUEST[/udp]", "Publish a port or a range (bound to 127.0.0.1)"},
    {kNameserver, "dns-nameserver", 0, "IP[:PORT]", "Name server to ask"},
    {kDnsTimeout, "dns-query-timeout-ms", 0, "N", "How long it may take to answer (5000)"},
    {kNoRebindProtection, "no-dns-rebind-protection", 0, "",
     "Hand out answers that point into forbidden ranges"},
    {kEgressBandwidth, "net-egress-bandwidth", 0, "SIZE[/TIME]", "Bytes it may send (per second)"},
    {kEgressBandwidthBurst, "net-egress-bandwidth-burst", 0, "SIZE", "Bytes on top of that, once"},
    {kEgressOps, "net-egress-ops", 0, "N[/TIME]", "Packets it may send (per second)"},
    {kEgressOpsBurst, "net-egress-ops-burst", 0, "N", "Packets on top of that, once"},
    {kIngressBandwidth, "net-ingress-bandwidth", 0, "SIZE[/TIME]", "Bytes it may receive (per second)"},
    {kIngressBandwidthBurst, "net-ingress-bandwidth-burst", 0, "SIZE", "Bytes on top of that, once"},
    {kIngressOps, "net-ingress-ops", 0, "N[/TIME]", "Packets it may receive (per second)"},
    {kIngressOpsBurst, "net-ingress-ops-burst", 0, "N", "Packets on top of that, once"},
    {kMaxConnections, "max-connections", 0, "N", "Connections at the same time"},
    {kMaxBytes, "net-max-bytes", 0, "SIZE", "Bytes it may move in all"},
    {kProxy, "proxy", 0, "URL", "Reach the world through socks4://, socks5:// or http://ADDRESS:PORT"},
    {kSocks4User, "socks4-user-id", 0, "NAME", "User for a SOCKS4 proxy"},
    {kSocks5User, "socks5-username", 0, "NAME", "User for a SOCKS5 proxy"},
    {kProxyPasswordFile, "proxy-password-file", 0, "FILE",
     "File with that user's password, read at each start"},
    {kPcap, "pcap", 0, "FILE", "Record its frames for tcpdump and Wireshark"},
    {kPcapLimit, "pcap-limit", 0, "SIZE", "Stop recording at this size (1G)"},
}};

std::vector<std::string> split(std::string_view list) {
  std::vector<std::string> out;
  for (;;) {
    const auto comma = list.find(',');
    out.emplace_back(list.substr(0, comma));
    if (comma == std::string_view::npos) return out;
    list.remove_prefix(comma + 1);
  }
}

Status add_ports(std::string_view text, NetworkSpec& network) {
  if (text.find('-') == std::string_view::npos) {
    MSB_ASSIGN(auto port, flag_value("port", supervisor::parse_port(text)));
    network.ports.push_back(std::move(port));
    return {};
  }
  MSB_ASSIGN(const proto::NetPortSpec range, flag_value("port", proto::parse_net_port(text)));
  for (std::uint16_t n = 0; n < range.count; ++n) {
    network.ports.push_back({range.bind.text(), static_cast<std::uint16_t>(range.host + n),
                             static_cast<std::uint16_t>(range.guest + n),
                             range.protocol == proto::NetProtocol::kUdp});
  }
  return {};
}

Status apply_policy(const Given& given, NetworkSpec& network) {
  const std::string_view value = given.value;
  switch (static_cast<NetOption>(given.id)) {
    case kNet:
      for (std::string& word : split(value)) {
        if (word == "open") word = "all";
        MSB_TRY(flag_value(given.name, proto::parse_net_profile(word)));
        network.profiles.push_back(std::move(word));
      }
      break;
    case kNetRule:
      MSB_TRY(flag_value(given.name, proto::parse_net_rules(value)));
      network.rules.emplace_back(value);
      break;
    case kNetDefault:
    case kNetDefaultEgress:
    case kNetDefaultIngress:
      if (value != "allow" && value != "deny")
        return usage_error("--" + std::string(given.name) + ": must be allow or deny");
      if (given.id != kNetDefaultIngress) network.default_egress = value;
      if (given.id != kNetDefaultEgress) network.default_ingress = value;
      break;
    case kNetStrict:
    case kNoNetStrict:
      network.strict = given.id == kNetStrict;
      break;
    case kNetObserve:
      network.observe = true;
      break;
    default:
      break;
  }
  return {};
}

// The member that a limit's option sets.
std::uint64_t* limit(int id, NetworkSpec& network) {
  switch (id) {
    case kEgressBandwidth:
      return &network.egress.bytes_per_s;
    case kEgressBandwidthBurst:
      return &network.egress.burst_bytes;
    case kEgressOps:
      return &network.egress.packets_per_s;
    case kEgressOpsBurst:
      return &network.egress.burst_packets;
    case kIngressBandwidth:
      return &network.ingress.bytes_per_s;
    case kIngressBandwidthBurst:
      return &network.ingress.burst_bytes;
    case kIngressOps:
      return &network.ingress.packets_per_s;
    case kIngressOpsBurst:
      return &network.ingress.burst_packets;
    case kMaxConnections:
      return &network.max_connections;
    case kMaxBytes:
      return &network.max_total_bytes;
    case kPcapLimit:
      return &network.pcap_limit;
    default:
      return nullptr;
  }
}

Status apply_limit(const Given& given, std::uint64_t& out) {
  const bool rate = given.id == kEgressBandwidth || given.id == kEgressOps || given.id == kIngressBandwidth ||
                    given.id == kIngressOps;
  MSB_ASSIGN(out, flag_value(given.name, rate ? supervisor::parse_rate(given.value)
                                              : supervisor::parse_size_bytes(given.value)));
  return {};
}

Status apply_rest(const Given& given, NetworkSpec& network) {
  const std::string_view value = given.value;
  switch (static_cast<NetOption>(given.id)) {
    case kPort:
      return add_ports(value, network);
    case kNameserver:
      network.nameservers.emplace_back(value);
      break;
    case kDnsTimeout: {
      const auto ms = supervisor::parse_decimal(value);
      if (!ms || *ms == 0)
        return usage_error("--" + std::string(given.name) + ": must be a number of milliseconds");
      network.dns_timeout_ms = *ms;
      break;
    }
    case kNoRebindProtection:
      network.rebind_protection = false;
      break;
    case kProxy:
      network.proxy = value;
      break;
    case kProxyPasswordFile: {
      MSB_ASSIGN(network.proxy_password_file, absolute_path(value));
      break;
    }
    case kPcap: {
      MSB_ASSIGN(network.pcap, absolute_path(value));
      break;
    }
    default:
      break;
  }
  return {};
}

// --socks4-user-id and --socks5-username belong into the proxy's address.
Status add_proxy_user(const Parsed& args, NetworkSpec& network) {
  for (const Given& given : args.options) {
    if (given.id != kSocks4User && given.id != kSocks5User) continue;
    const std::string scheme = given.id == kSocks4User ? "socks4://" : "socks5://";
    if (!network.proxy.starts_with(scheme)) {
      return usage_error("--" + std::string(given.name) + " needs --proxy " + scheme + "ADDRESS:PORT");
    }
    network.proxy.insert(scheme.size(), std::string(given.value) + "@");
  }
  return {};
}

}  // namespace

std::span<const Option> net_options() { return kOptions; }
std::span<const Option> net_policy_options() { return std::span(kOptions).first<kPolicyOptions>(); }

Status apply_net_flags(const Parsed& args, NetworkSpec& network) {
  const bool defaults = args.has(kNetDefault) || args.has(kNetDefaultEgress) || args.has(kNetDefaultIngress);
  if (args.has(kNoNet) && defaults) return usage_error("--no-net is a default itself: give one of the two");
  if (args.has(kNet) && (defaults || args.has(kNoNet)))
    return usage_error("--net: a profile and a default (--net-default, --no-net) exclude each other");
  // What a configuration file says of these is replaced as a whole.
  if (args.has(kNet)) {
    network.enabled = true;
    network.profiles.clear();
    network.default_egress.clear();
    network.default_ingress.clear();
  }
  if (defaults || args.has(kNoNet)) network.profiles.clear();
  for (const Given& given : args.options) {
    if (given.id < kFirstNetOption || given.id > kLastNetOption) continue;
    if (std::uint64_t* const member = limit(given.id, network)) {
      MSB_TRY(apply_limit(given, *member));
    } else if (given.id < kFirstNetOption + static_cast<int>(kPolicyOptions)) {
      MSB_TRY(apply_policy(given, network));
    } else {
      MSB_TRY(apply_rest(given, network));
    }
  }
  MSB_TRY(add_proxy_user(args, network));
  if (args.has(kNoNet) && args.has(kNetRule)) {
    network.enabled = true;
    network.default_egress = network.default_ingress = "deny";
  } else if (args.has(kNoNet)) {
    network.enabled = false;
  }
  // Nothing can be said through a device whose every frame is refused.
  if (network.profiles == std::vector<std::string>{"none"} && network.rules.empty()) {
    network.profiles.clear();
    network.enabled = false;
  }
  return {};
}

}  // namespace msb::cli
