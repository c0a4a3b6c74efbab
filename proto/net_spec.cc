// SPDX-License-Identifier: Apache-2.0
#include "proto/net_spec.h"

#include <algorithm>

namespace msb::proto {
namespace {

constexpr std::array<std::string_view, 5> kProfiles{"public", "private", "host", "all", "none"};
constexpr std::size_t kMaxPorts = 4096;
constexpr std::size_t kMaxUpstreams = 16;
constexpr std::size_t kMaxHosts = 1024;

Error bad(const JsonView& at, const std::string& why) {
  return make_error(Errc::kInvalid, "%s: %s", at.path().c_str(), why.c_str());
}

Result<IpAddress> get_address(const JsonView& object, std::string_view key, IpAddress::Family family) {
  MSB_ASSIGN(const JsonView value, object.at(key));
  MSB_ASSIGN(const std::string_view text, value.as_string());
  const auto address = IpAddress::parse(text);
  if (!address || address->family() != family) return bad(value, "not an address of this family");
  return *address;
}

Result<std::array<std::uint8_t, 6>> parse_mac(const JsonView& value) {
  MSB_ASSIGN(const std::string_view text, value.as_string());
  std::array<std::uint8_t, 6> mac{};
  const auto digit = [](char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return -1;
  };
  bool fine = text.size() == 17;
  for (std::size_t i = 0; fine && i < 6; ++i) {
    const int high = digit(text[3 * i]);
    const int low = digit(text[3 * i + 1]);
    fine = high >= 0 && low >= 0 && (i == 5 || text[3 * i + 2] == ':');
    if (fine) mac[i] = static_cast<std::uint8_t>(high << 4 | low);
  }
  if (!fine) return bad(value, "not a MAC address of six lower-case hexadecimal pairs");
  if ((mac[0] & 1) != 0) return bad(value, "a group address cannot be an interface's own");
  return mac;
}

Result<std::optional<NetFamilySpec>> parse_family(const JsonView& guest, std::string_view key,
                                                  IpAddress::Family family) {
  const auto object = guest.find(key);
  if (!object) return std::optional<NetFamilySpec>();
  MSB_TRY(object->only_keys({"address", "prefix", "gateway"}));
  NetFamilySpec out;
  MSB_ASSIGN(out.address, get_address(*object, "address", family));
  MSB_ASSIGN(out.gateway, get_address(*object, "gateway", family));
  MSB_ASSIGN(const std::uint64_t prefix, object->get_uint("prefix", out.address.bit_length()));
  out.prefix = static_cast<std::uint8_t>(prefix);
  const auto net = IpPrefix::make(out.address, out.prefix);
  if (!net || !net->contains(out.gateway) || out.gateway == out.address)
    return bad(*object, "the gateway must be another address of the same network");
  return std::optional(out);
}

Status parse_guest(const JsonView& value, NetGuestSpec& out) {
  MSB_TRY(value.only_keys({"mac", "gateway_mac", "mtu", "ipv4", "ipv6"}));
  if (const auto mac = value.find("mac")) {
    MSB_ASSIGN(out.mac, parse_mac(*mac));
  }
  if (const auto mac = value.find("gateway_mac")) {
    MSB_ASSIGN(out.gateway_mac, parse_mac(*mac));
  }
  if (out.mac == out.gateway_mac) return bad(value, "guest and gateway need different MAC addresses");
  MSB_ASSIGN(const std::uint64_t mtu, value.get_uint_or("mtu", out.mtu, 65520));
  if (mtu < 1280) return bad(value, "mtu must lie in 1280..65520");
  out.mtu = static_cast<std::uint16_t>(mtu);
  MSB_ASSIGN(out.ipv4, parse_family(value, "ipv4", IpAddress::Family::kV4));
  MSB_ASSIGN(out.ipv6, parse_family(value, "ipv6", IpAddress::Family::kV6));
  if (!out.ipv4 && !out.ipv6) return bad(value, "neither ipv4 nor ipv6 is given");
  return {};
}

Result<std::optional<NetAction>> parse_default(const JsonView& policy, std::string_view key) {
  const auto value = policy.find(key);
  if (!value) return std::optional<NetAction>();
  MSB_ASSIGN(const std::string_view text, value->as_string());
  if (text == "allow") return std::optional(NetAction::kAllow);
  if (text == "deny") return std::optional(NetAction::kDeny);
  return bad(*value, "must be \"allow\" or \"deny\"");
}

Result<NetEndpoint> parse_endpoint(const JsonView& value, std::uint16_t default_port) {
  MSB_ASSIGN(std::string_view text, value.as_string());
  NetEndpoint out;
  out.port = default_port;
  std::string_view host = text;
  if (text.starts_with('[')) {
    const std::size_t close = text.find(']');
    if (close == std::string_view::npos) return bad(value, "\"[\" without \"]\"");
    host = text.substr(1, close - 1);
    text = text.substr(close + 1);
  } else if (std::count(text.begin(), text.end(), ':') == 1) {
    host = text.substr(0, text.find(':'));
    text = text.substr(host.size());
  } else {
    text = {};
  }
  if (!text.empty()) {
    const auto port = text[0] == ':' ? parse_port(text.substr(1)) : std::nullopt;
    if (!port || *port == 0) return bad(value, "not ADDRESS or ADDRESS:PORT");
    out.port = *port;
  }
  const auto address = IpAddress::parse(host);
  if (!address || out.port == 0) return bad(value, "not ADDRESS or ADDRESS:PORT");
  out.address = *address;
  return out;
}

Result<std::vector<NetEndpoint>> parse_upstreams(const JsonView& object) {
  std::vector<NetEndpoint> out;
  const auto list = object.find("upstreams");
  if (!list) return out;
  MSB_ASSIGN(const std::vector<JsonView> elements, list->elements());
  if (elements.size() > kMaxUpstreams) return bad(*list, "more than 16 upstreams");
  for (const JsonView& element : elements) {
    MSB_ASSIGN(const NetEndpoint endpoint, parse_endpoint(element, 53));
    out.push_back(endpoint);
  }
  return out;
}

Result<Hostname> as_name(const JsonView& value) {
  MSB_ASSIGN(const std::string_view text, value.as_string());
  auto name = Hostname::parse(text);
  if (!name) return std::move(name.error()).with_context(value.path());
  return name;
}

Status parse_dns(const JsonView& value, NetDnsSpec& out) {
  MSB_TRY(value.only_keys(
      {"upstreams", "routes", "hosts", "timeout_ms", "max_queries_per_s", "rebind_protection"}));
  MSB_ASSIGN(out.upstreams, parse_upstreams(value));
  MSB_ASSIGN(const std::uint64_t timeout, value.get_uint_or("timeout_ms", out.timeout_ms, 60000));
  if (timeout < 100) return bad(value, "timeout_ms must lie in 100..60000");
  out.timeout_ms = static_cast<std::uint32_t>(timeout);
  MSB_ASSIGN(const std::uint64_t rate,
             value.get_uint_or("max_queries_per_s", out.max_queries_per_s, 1'000'000));
  out.max_queries_per_s = static_cast<std::uint32_t>(rate);
  MSB_ASSIGN(out.rebind_protection, value.get_bool_or("rebind_protection", true));
  if (const auto list = value.find("routes")) {
    MSB_ASSIGN(const std::vector<JsonView> elements, list->elements());
    if (elements.size() > 256) return bad(*list, "more than 256 routes");
    for (const JsonView& element : elements) {
      MSB_TRY(element.only_keys({"suffix", "upstreams"}));
      MSB_ASSIGN(const JsonView suffix, element.at("suffix"));
      MSB_ASSIGN(Hostname name, as_name(suffix));
      MSB_ASSIGN(std::vector<NetEndpoint> upstreams, parse_upstreams(element));
      if (upstreams.empty()) return bad(element, "a route needs upstreams");
      out.routes.push_back({std::move(name), std::move(upstreams)});
    }
  }
  if (const auto list = value.find("hosts")) {
    MSB_ASSIGN(const std::vector<JsonView> elements, list->elements());
    if (elements.size() > kMaxHosts) return bad(*list, "more than 1024 hosts");
    for (const JsonView& element : elements) {
      MSB_TRY(element.only_keys({"name", "addresses"}));
      MSB_ASSIGN(const JsonView key, element.at("name"));
      MSB_ASSIGN(Hostname name, as_name(key));
      MSB_ASSIGN(const std::vector<std::string> texts, element.get_strings_or_empty("addresses"));
      std::vector<IpAddress> addresses;
      for (const std::string& text : texts) {
        const auto address = IpAddress::parse(text);
        if (!address || addresses.size() == 16)
          return bad(element, "addresses must be at most 16 IP addresses");
        addresses.push_back(*address);
      }
      out.hosts.push_back({std::move(name), std::move(addresses)});
    }
  }
  return {};
}

Status parse_rate(const JsonView& value, const std::string& direction, NetRateSpec& out) {
  MSB_ASSIGN(out.bytes_per_s, value.get_uint_or(direction + "_bytes_per_s", 0));
  MSB_ASSIGN(out.burst_bytes, value.get_uint_or(direction + "_burst_bytes", 0));
  MSB_ASSIGN(out.packets_per_s, value.get_uint_or(direction + "_packets_per_s", 0));
  MSB_ASSIGN(out.burst_packets, value.get_uint_or(direction + "_burst_packets", 0));
  if (out.burst_bytes != 0 && out.bytes_per_s == 0)
    return bad(value, direction + "_burst_bytes needs " + direction + "_bytes_per_s");
  if (out.burst_packets != 0 && out.packets_per_s == 0)
    return bad(value, direction + "_burst_packets needs " + direction + "_packets_per_s");
  return {};
}

Status parse_limits(const JsonView& value, NetLimitsSpec& out) {
  MSB_TRY(value.only_keys({"egress_bytes_per_s", "egress_burst_bytes", "egress_packets_per_s",
                           "egress_burst_packets", "ingress_bytes_per_s", "ingress_burst_bytes",
                           "ingress_packets_per_s", "ingress_burst_packets", "max_connections",
                           "max_total_bytes", "buffer_bytes", "pcap_bytes"}));
  MSB_TRY(parse_rate(value, "egress", out.egress));
  MSB_TRY(parse_rate(value, "ingress", out.ingress));
  MSB_ASSIGN(const std::uint64_t flows, value.get_uint_or("max_connections", 0, 1'000'000));
  out.max_connections = static_cast<std::uint32_t>(flows);
  MSB_ASSIGN(out.max_total_bytes, value.get_uint_or("max_total_bytes", 0));
  MSB_ASSIGN(out.buffer_bytes, value.get_uint_or("buffer_bytes", out.buffer_bytes, std::uint64_t{4} << 30));
  MSB_ASSIGN(out.pcap_bytes, value.get_uint_or("pcap_bytes", out.pcap_bytes));
  if (out.buffer_bytes < (1U << 20)) return bad(value, "buffer_bytes must be at least 1 MiB");
  return {};
}

Status parse_proxy(const JsonView& value, NetSpec& out) {
  MSB_TRY(value.only_keys({"kind", "address", "user"}));
  NetProxySpec proxy;
  MSB_ASSIGN(const std::string kind, value.get_string("kind"));
  if (kind == "socks5")
    proxy.kind = NetProxySpec::Kind::kSocks5;
  else if (kind == "socks4")
    proxy.kind = NetProxySpec::Kind::kSocks4;
  else if (kind == "http")
    proxy.kind = NetProxySpec::Kind::kHttp;
  else
    return bad(value, "kind must be \"socks5\", \"socks4\" or \"http\"");
  MSB_ASSIGN(const JsonView address, value.at("address"));
  MSB_ASSIGN(proxy.address, parse_endpoint(address, 0));
  MSB_ASSIGN(proxy.user, value.get_string_or("user", ""));
  if (proxy.user.size() > 255 || proxy.user.find('\0') != std::string::npos ||
      proxy.user.find(':') != std::string::npos) {
    return bad(value, "user must have at most 255 bytes, without NUL and colon");
  }
  out.proxy = std::move(proxy);
  return {};
}

// "N" or "LO-HI": first port and count.
std::optional<std::pair<std::uint16_t, std::uint16_t>> parse_port_range(std::string_view text) {
  const std::size_t dash = text.find('-');
  const auto first = parse_port(text.substr(0, dash));
  const auto last = dash == std::string_view::npos ? first : parse_port(text.substr(dash + 1));
  if (!first || !last || *first > *last || *last - *first >= 65535) return std::nullopt;
  return std::pair(*first, static_cast<std::uint16_t>(*last - *first + 1));
}

Status check_port(const NetPortSpec& port, const char* text) {
  if (port.guest == 0 || port.count == 0 || port.guest > 65536 - port.count)
    return make_error(Errc::kInvalid, "port \"%s\": guest ports lie in 1..65535", text);
  if (port.host != 0 && port.host > 65536 - port.count)
    return make_error(Errc::kInvalid, "port \"%s\": host ports lie in 0..65535", text);
  if (port.count > kMaxPorts)
    return make_error(Errc::kLimit, "port \"%s\": a range of more than 4096 ports", text);
  return {};
}

}  // namespace

Result<NetProfile> parse_net_profile(std::string_view text) {
  const auto it = std::find(kProfiles.begin(), kProfiles.end(), text);
  if (it == kProfiles.end())
    return make_error(Errc::kInvalid, "unknown network profile \"%.*s\" (public, private, host, all, none)",
                      static_cast<int>(std::min<std::size_t>(text.size(), 64)), text.data());
  return static_cast<NetProfile>(it - kProfiles.begin());
}
std::string_view net_profile_name(NetProfile profile) { return kProfiles[static_cast<std::size_t>(profile)]; }

Result<NetPortSpec> parse_net_port(std::string_view text) {
  const std::string whole(text.substr(0, 100));
  const auto wrong = [&](const char* why) {
    return make_error(Errc::kInvalid, "port \"%s\": %s", whole.c_str(), why);
  };
  NetPortSpec out;
  if (const std::size_t slash = text.rfind('/'); slash != std::string_view::npos) {
    const std::string_view protocol = text.substr(slash + 1);
    if (protocol == "udp")
      out.protocol = NetProtocol::kUdp;
    else if (protocol != "tcp")
      return wrong("the protocol is tcp or udp");
    text = text.substr(0, slash);
  }
  const std::size_t last = text.rfind(':');
  if (last == std::string_view::npos) return wrong("expected [BIND:]HOST:GUEST[/tcp|/udp]");
  const std::string_view guest = text.substr(last + 1);
  std::string_view host = text.substr(0, last);
  if (const std::size_t colon = host.rfind(':'); colon != std::string_view::npos) {
    std::string_view bind = host.substr(0, colon);
    host = host.substr(colon + 1);
    const bool bracketed = bind.size() >= 2 && bind.front() == '[' && bind.back() == ']';
    if (bracketed) bind = bind.substr(1, bind.size() - 2);
    const auto address = IpAddress::parse(bind);
    if (!address || address->is_v6() != bracketed)
      return wrong("BIND is an IPv4 address or an IPv6 address in brackets");
    out.bind = *address;
  }
  const auto host_range = parse_port_range(host);
  const auto guest_range = parse_port_range(guest);
  if (!host_range || !guest_range) return wrong("HOST and GUEST are ports or ranges LOW-HIGH");
  if (host_range->second != guest_range->second) return wrong("HOST and GUEST ranges differ in size");
  if (host_range->first == 0 && host_range->second != 1) return wrong("port 0 cannot begin a range");
  out.host = host_range->first;
  out.guest = guest_range->first;
  out.count = host_range->second;
  MSB_TRY(check_port(out, whole.c_str()));
  return out;
}

Result<NetPortSpec> parse_net_port(const JsonView& value) {
  if (value.is_string()) {
    MSB_ASSIGN(const std::string_view text, value.as_string());
    return parse_net_port(text).with_context(value.path());
  }
  MSB_TRY(value.only_keys({"bind", "host", "guest", "protocol", "count"}));
  NetPortSpec out;
  MSB_ASSIGN(const std::string bind, value.get_string_or("bind", "127.0.0.1"));
  const auto address = IpAddress::parse(bind);
  if (!address) return bad(value, "bind is not an IP address");
  out.bind = *address;
  MSB_ASSIGN(const std::uint64_t host, value.get_uint_or("host", 0, 65535));
  MSB_ASSIGN(const std::uint64_t guest, value.get_uint("guest", 65535));
  MSB_ASSIGN(const std::uint64_t count, value.get_uint_or("count", 1, 4096));
  MSB_ASSIGN(const std::string protocol, value.get_string_or("protocol", "tcp"));
  if (protocol == "udp")
    out.protocol = NetProtocol::kUdp;
  else if (protocol != "tcp")
    return bad(value, "protocol must be \"tcp\" or \"udp\"");
  out.host = static_cast<std::uint16_t>(host);
  out.guest = static_cast<std::uint16_t>(guest);
  out.count = static_cast<std::uint16_t>(count);
  MSB_TRY(check_port(out, value.path().c_str()));
  return out;
}

Result<NetPolicySpec> parse_net_policy(const JsonView& value) {
  MSB_TRY(value.only_keys(
      {"profiles", "rules", "default_egress", "default_ingress", "strict", "observe", "nat64_prefixes"}));
  NetPolicySpec out;
  MSB_ASSIGN(const std::vector<std::string> profiles, value.get_strings_or_empty("profiles"));
  for (const std::string& text : profiles) {
    MSB_ASSIGN(const NetProfile profile, parse_net_profile(text));
    const bool repeated = std::find(out.profiles.begin(), out.profiles.end(), profile) != out.profiles.end();
    const bool terminal = profile == NetProfile::kAll || profile == NetProfile::kNone;
    const bool after_terminal = !out.profiles.empty() &&
                                (out.profiles[0] == NetProfile::kAll || out.profiles[0] == NetProfile::kNone);
    if ((terminal && !out.profiles.empty()) || after_terminal)
      return bad(value, "profiles all and none stand alone");
    if (!repeated) out.profiles.push_back(profile);
  }
  MSB_ASSIGN(const std::vector<std::string> rules, value.get_strings_or_empty("rules"));
  for (const std::string& text : rules) {
    MSB_ASSIGN(std::vector<NetRule> parsed, parse_net_rules(text));
    if (parsed.size() > kMaxNetRules - out.rules.size()) return bad(value, "more than 4096 rules");
    std::move(parsed.begin(), parsed.end(), std::back_inserter(out.rules));
  }
  MSB_ASSIGN(out.default_egress, parse_default(value, "default_egress"));
  MSB_ASSIGN(out.default_ingress, parse_default(value, "default_ingress"));
  if ((out.default_egress || out.default_ingress) && !out.profiles.empty()) {
    return bad(value, "profiles and defaults exclude each other");
  }
  MSB_ASSIGN(out.strict, value.get_bool_or("strict", true));
  MSB_ASSIGN(out.observe, value.get_bool_or("observe", false));
  MSB_ASSIGN(const std::vector<std::string> nat64, value.get_strings_or_empty("nat64_prefixes"));
  for (const std::string& text : nat64) {
    const auto prefix = IpPrefix::parse(text);
    if (!prefix || prefix->address.is_v4() || prefix->length != 96 || out.nat64_prefixes.size() == 16)
      return bad(value, "nat64_prefixes are at most 16 IPv6 ranges of length 96");
    out.nat64_prefixes.push_back(*prefix);
  }
  return out;
}

Result<NetSpec> NetSpec::parse(std::string_view json) {
  MSB_ASSIGN(const JsonDocument document, JsonDocument::parse(json));
  const JsonView root = document.root();
  MSB_TRY(root.only_keys(
      {"version", "guest", "vnet_hdr", "policy", "dns", "ports", "limits", "proxy", "host_alias"}));
  MSB_ASSIGN(const std::uint64_t version, root.get_uint("version"));
  if (version != 1)
    return make_error(Errc::kUnsupported, "network configuration version %llu; this msb-net knows 1",
                      static_cast<unsigned long long>(version));
  NetSpec out;
  MSB_ASSIGN(const JsonView guest, root.at("guest"));
  MSB_TRY(parse_guest(guest, out.guest));
  MSB_ASSIGN(out.vnet_hdr, root.get_bool_or("vnet_hdr", false));
  if (const auto policy = root.find("policy")) {
    MSB_ASSIGN(out.policy, parse_net_policy(*policy));
  }
  if (const auto dns = root.find("dns")) MSB_TRY(parse_dns(*dns, out.dns));
  if (const auto ports = root.find("ports")) {
    MSB_ASSIGN(const std::vector<JsonView> elements, ports->elements());
    if (elements.size() > kMaxPorts) return bad(*ports, "more than 4096 published ports");
    for (const JsonView& element : elements) {
      MSB_ASSIGN(const NetPortSpec port, parse_net_port(element));
      out.ports.push_back(port);
    }
  }
  if (const auto limits = root.find("limits")) MSB_TRY(parse_limits(*limits, out.limits));
  if (const auto proxy = root.find("proxy")) MSB_TRY(parse_proxy(*proxy, out));
  MSB_ASSIGN(const std::string alias, root.get_string_or("host_alias", out.host_alias));
  MSB_ASSIGN(const Hostname alias_name, Hostname::parse(alias));
  out.host_alias = alias_name.text();
  return out;
}

}  // namespace msb::proto
