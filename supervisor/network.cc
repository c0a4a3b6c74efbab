// SPDX-License-Identifier: Apache-2.0
#include "supervisor/network.h"

#include <string.h>

#include <algorithm>
#include <string_view>
#include <utility>

#include "base/file.h"
#include "proto/net_spec.h"
#include "supervisor/quantities.h"

namespace msb::supervisor {
namespace {

constexpr std::uint64_t kMaxList = 4096;
constexpr std::size_t kMaxPassword = 255;  // of SOCKS5
constexpr std::size_t kMaxPasswordFile = 4096;

Error wrong(const JsonView& view, const std::string& text) {
  return Error{Errc::kInvalid, 0, view.path() + ": " + text};
}

// One name stands for a whole policy, as configuration files have it.
void apply_mode(std::string_view mode, NetworkSpec& out) {
  if (mode == "none")
    out.enabled = false;
  else
    out.profiles = {mode == "open" ? "all" : std::string(mode)};
}

Status read_strings(const JsonView& view, const char* key, std::vector<std::string>& out) {
  MSB_ASSIGN(std::vector<std::string> list, view.get_strings_or_empty(key));
  if (list.size() > kMaxList) return wrong(view, std::string(key) + ": too many elements");
  if (!list.empty()) out = std::move(list);
  return {};
}

// A number, or text such as "10M".
Status read_bytes(const JsonView& view, const char* key, std::uint64_t& out) {
  const auto member = view.find(key);
  if (!member) return {};
  if (!member->is_string()) {
    MSB_ASSIGN(out, member->as_uint());
    return {};
  }
  MSB_ASSIGN(const std::string_view text, member->as_string());
  auto bytes = parse_size_bytes(text);
  if (!bytes.ok()) return std::move(bytes).error().with_context(member->path());
  out = *bytes;
  return {};
}

Status read_rate(const JsonView& view, const char* key, UnknownKeys unknown, NetworkSpec::Rate& out) {
  const auto rate = view.find(key);
  if (!rate) return {};
  if (!rate->is_object()) return wrong(*rate, "must be an object");
  if (unknown == UnknownKeys::kRefuse)
    MSB_TRY(rate->only_keys({"bytes_per_s", "burst_bytes", "packets_per_s", "burst_packets"}));
  MSB_TRY(read_bytes(*rate, "bytes_per_s", out.bytes_per_s));
  MSB_TRY(read_bytes(*rate, "burst_bytes", out.burst_bytes));
  MSB_TRY(read_bytes(*rate, "packets_per_s", out.packets_per_s));
  MSB_TRY(read_bytes(*rate, "burst_packets", out.burst_packets));
  return {};
}

void write_rate(const char* key, const NetworkSpec::Rate& rate, JsonWriter& out) {
  if (rate == NetworkSpec::Rate{}) return;
  out.key(key).begin_object().field("bytes_per_s", rate.bytes_per_s).field("burst_bytes", rate.burst_bytes);
  out.field("packets_per_s", rate.packets_per_s).field("burst_packets", rate.burst_packets).end_object();
}

void write_limits(const NetworkSpec& network, JsonWriter& out) {
  out.key("limits").begin_object();
  for (const auto& [name, rate] :
       {std::pair<std::string, const NetworkSpec::Rate&>{"egress", network.egress},
        std::pair<std::string, const NetworkSpec::Rate&>{"ingress", network.ingress}}) {
    out.field(name + "_bytes_per_s", rate.bytes_per_s).field(name + "_burst_bytes", rate.burst_bytes);
    out.field(name + "_packets_per_s", rate.packets_per_s).field(name + "_burst_packets", rate.burst_packets);
  }
  out.field("max_connections", network.max_connections).field("max_total_bytes", network.max_total_bytes);
  if (network.pcap_limit != 0) out.field("pcap_bytes", network.pcap_limit);
  out.end_object();
}

// "KIND://[USER@]ADDRESS:PORT" into its parts; msb-net's parser judges them.
void write_proxy(std::string_view url, JsonWriter& out) {
  const auto scheme = url.find("://");
  const std::string_view kind = scheme == std::string_view::npos ? "" : url.substr(0, scheme);
  std::string_view address = scheme == std::string_view::npos ? url : url.substr(scheme + 3);
  std::string_view user;
  if (const auto at = address.rfind('@'); at != std::string_view::npos) {
    user = address.substr(0, at);
    address = address.substr(at + 1);
  }
  out.key("proxy").begin_object().field("kind", kind).field("address", address).field("user", user);
  out.end_object();
}

}  // namespace

Result<NetworkSpec> read_network(const JsonView& view, UnknownKeys unknown) {
  NetworkSpec out;
  if (view.is_string()) {
    MSB_ASSIGN(const std::string_view mode, view.as_string());
    apply_mode(mode, out);
    return out;
  }
  if (!view.is_object()) return wrong(view, "must be an object or a profile's name");
  if (unknown == UnknownKeys::kRefuse)
    MSB_TRY(view.only_keys({"mode", "profiles", "rules", "default_egress", "default_ingress", "strict",
                            "observe", "nameservers", "dns_timeout", "rebind_protection", "egress", "ingress",
                            "max_connections", "max_total_bytes", "proxy", "proxy_password_file", "pcap",
                            "pcap_limit"}));
  MSB_ASSIGN(const std::string mode, view.get_string_or("mode", ""));
  if (!mode.empty()) apply_mode(mode, out);
  MSB_TRY(read_strings(view, "profiles", out.profiles));
  MSB_TRY(read_strings(view, "rules", out.rules));
  MSB_ASSIGN(out.default_egress, view.get_string_or("default_egress", ""));
  MSB_ASSIGN(out.default_ingress, view.get_string_or("default_ingress", ""));
  MSB_ASSIGN(out.strict, view.get_bool_or("strict", true));
  MSB_ASSIGN(out.observe, view.get_bool_or("observe", false));
  MSB_TRY(read_strings(view, "nameservers", out.nameservers));
  if (const auto timeout = view.find("dns_timeout")) {
    MSB_ASSIGN(const std::string_view text, timeout->as_string());
    auto ms = parse_duration_ms(text);
    if (!ms.ok()) return std::move(ms).error().with_context(timeout->path());
    out.dns_timeout_ms = static_cast<std::uint64_t>(*ms);
  }
  MSB_ASSIGN(out.rebind_protection, view.get_bool_or("rebind_protection", true));
  MSB_TRY(read_rate(view, "egress", unknown, out.egress));
  MSB_TRY(read_rate(view, "ingress", unknown, out.ingress));
  MSB_ASSIGN(out.max_connections, view.get_uint_or("max_connections", 0));
  MSB_TRY(read_bytes(view, "max_total_bytes", out.max_total_bytes));
  MSB_ASSIGN(out.proxy, view.get_string_or("proxy", ""));
  MSB_ASSIGN(out.proxy_password_file, view.get_string_or("proxy_password_file", ""));
  MSB_ASSIGN(out.pcap, view.get_string_or("pcap", ""));
  MSB_TRY(read_bytes(view, "pcap_limit", out.pcap_limit));
  return out;
}

void write_network(const NetworkSpec& network, JsonWriter& out) {
  const auto text = [&](const char* key, const std::string& value) {
    if (!value.empty()) out.field(key, value);
  };
  const auto list = [&](const char* key, const std::vector<std::string>& values) {
    if (!values.empty()) out.field(key, values);
  };
  out.begin_object();
  if (!network.enabled) out.field("mode", "none");
  list("profiles", network.profiles);
  list("rules", network.rules);
  text("default_egress", network.default_egress);
  text("default_ingress", network.default_ingress);
  if (!network.strict) out.field("strict", false);
  if (network.observe) out.field("observe", true);
  list("nameservers", network.nameservers);
  if (network.dns_timeout_ms != 0)
    out.field("dns_timeout", format_duration_ms(static_cast<std::int64_t>(network.dns_timeout_ms)));
  if (!network.rebind_protection) out.field("rebind_protection", false);
  write_rate("egress", network.egress, out);
  write_rate("ingress", network.ingress, out);
  if (network.max_connections != 0) out.field("max_connections", network.max_connections);
  if (network.max_total_bytes != 0) out.field("max_total_bytes", network.max_total_bytes);
  text("proxy", network.proxy);
  text("proxy_password_file", network.proxy_password_file);
  text("pcap", network.pcap);
  if (network.pcap_limit != 0) out.field("pcap_limit", network.pcap_limit);
  out.end_object();
}

void write_net_config(const NetworkSpec& network, JsonWriter& out) {
  out.begin_object().field("version", 1).key("guest").begin_object();
  out.field("mac", kGuestMac).field("gateway_mac", "02:6d:73:62:00:01").field("mtu", kGuestMtu);
  out.key("ipv4").begin_object().field("address", "172.16.0.2").field("prefix", 30);
  out.field("gateway", "172.16.0.1").end_object();
  out.key("ipv6").begin_object().field("address", "fd42:6d73:62::2").field("prefix", 64);
  out.field("gateway", "fd42:6d73:62::1").end_object().end_object();
  out.field("vnet_hdr", true);
  out.key("policy");
  write_net_policy(network, out);
  out.key("dns").begin_object().field("upstreams", network.nameservers);
  out.field("rebind_protection", network.rebind_protection);
  if (network.dns_timeout_ms != 0) out.field("timeout_ms", network.dns_timeout_ms);
  out.end_object();
  out.key("ports").begin_array();
  for (const PortMapping& port : network.ports) {
    out.begin_object().field("bind", port.bind).field("host", port.host).field("guest", port.guest);
    out.field("protocol", port.udp ? "udp" : "tcp").end_object();
  }
  out.end_array();
  write_limits(network, out);
  if (!network.proxy.empty()) write_proxy(network.proxy, out);
  out.end_object();
}

void write_net_policy(const NetworkSpec& network, JsonWriter& out) {
  out.begin_object().field("profiles", network.profiles).field("rules", network.rules);
  if (!network.default_egress.empty()) out.field("default_egress", network.default_egress);
  if (!network.default_ingress.empty()) out.field("default_ingress", network.default_ingress);
  out.field("strict", network.strict).field("observe", network.observe).end_object();
}

Result<std::string> net_secrets_json(const NetworkSpec& network) {
  MSB_ASSIGN(std::string password, read_file(network.proxy_password_file, kMaxPasswordFile));
  if (password.ends_with('\n')) password.pop_back();
  const bool control = std::any_of(password.begin(), password.end(),
                                   [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; });
  const bool fine = !password.empty() && password.size() <= kMaxPassword && !control && is_utf8(password);
  JsonWriter out;
  out.begin_object().field("proxy_password", fine ? password : std::string()).end_object();
  ::explicit_bzero(password.data(), password.size());
  if (!fine)
    return make_error(Errc::kInvalid, "%s: a password is one line of 1 to %zu bytes of UTF-8",
                      network.proxy_password_file.c_str(), kMaxPassword);
  return std::move(out).take();
}

std::string net_config_json(const NetworkSpec& network) {
  JsonWriter out;
  write_net_config(network, out);
  return std::move(out).take();
}

Status check_network(const NetworkSpec& network) {
  if (!network.enabled) {
    NetworkSpec off;
    off.enabled = false;
    if (network == off) return {};
    return make_error(Errc::kInvalid, network.ports.empty()
                                          ? "network: it is off, so rules and limits for it cannot hold"
                                          : "ports: nothing can be published when the network is off");
  }
  if (!network.pcap.empty() && network.pcap.front() != '/')
    return make_error(Errc::kInvalid, "network.pcap: must be an absolute path");
  if (network.pcap_limit != 0 && network.pcap.empty())
    return make_error(Errc::kInvalid, "network.pcap_limit: there is no capture to limit");
  if (!network.proxy_password_file.empty()) {
    if (network.proxy_password_file.front() != '/')
      return make_error(Errc::kInvalid, "network.proxy_password_file: must be an absolute path");
    if (network.proxy.find('@') == std::string::npos || network.proxy.starts_with("socks4:"))
      return make_error(Errc::kInvalid,
                        "network.proxy_password_file: needs a socks5 or http proxy with a user");
  }
  const auto parsed = proto::NetSpec::parse(net_config_json(network));
  if (!parsed) return Error(parsed.error()).with_context("network");
  return {};
}

}  // namespace msb::supervisor
