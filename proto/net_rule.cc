// SPDX-License-Identifier: Apache-2.0
#include "proto/net_rule.h"

#include <algorithm>
#include <array>
#include <span>

namespace msb::proto {
namespace {

constexpr std::array<std::string_view, 7> kGroups{"public", "private",   "loopback", "link-local",
                                                  "meta",   "multicast", "host"};
constexpr std::array<std::string_view, 5> kProtocols{"any", "tcp", "udp", "icmpv4", "icmpv6"};
constexpr std::array<std::string_view, 2> kActions{"allow", "deny"};
constexpr std::array<std::string_view, 3> kDirections{"egress", "ingress", "any"};
constexpr std::array<std::string_view, 9> kTargets{"any",        "dns",  "public",    "private", "loopback",
                                                   "link-local", "meta", "multicast", "host"};

// Levenshtein distance; only for the short words of the grammar.
std::size_t distance(std::string_view a, std::string_view b) {
  std::array<std::size_t, 17> row{};
  if (b.size() > 16 || a.size() > 32) return 99;
  for (std::size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t above = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, diagonal + (a[i - 1] == b[j - 1] ? 0U : 1U)});
      diagonal = above;
    }
  }
  return row[b.size()];
}

std::string hint(std::string_view word, std::span<const std::string_view> known) {
  std::string_view best;
  std::size_t best_distance = 3;
  for (const std::string_view candidate : known) {
    if (const std::size_t d = distance(word, candidate); d < best_distance) {
      best_distance = d;
      best = candidate;
    }
  }
  return best.empty() ? std::string() : " (did you mean \"" + std::string(best) + "\"?)";
}

template <std::size_t N>
std::optional<std::size_t> index_of(std::string_view word, const std::array<std::string_view, N>& known) {
  const auto it = std::find(known.begin(), known.end(), word);
  if (it == known.end()) return std::nullopt;
  return static_cast<std::size_t>(it - known.begin());
}

Error bad(std::string_view token, const std::string& why) {
  return make_error(Errc::kInvalid, "network rule \"%.*s\": %s",
                    static_cast<int>(std::min<std::size_t>(token.size(), 300)), token.data(), why.c_str());
}

std::string quoted(std::string_view word) { return "\"" + std::string(word.substr(0, 80)) + "\""; }

Status parse_name_target(std::string_view token, std::string_view text, NetRule::Target kind, NetRule& rule) {
  if (text.empty() || text.front() == '.' || text.back() == '.')
    return bad(token, "a name has no dot at its ends");
  auto name = Hostname::parse(text);
  if (!name) return bad(token, name.error().text);
  if (kind == NetRule::Target::kSuffix && name->labels() < 2) {
    return bad(token, "suffix " + quoted(text) + " is too broad: it needs at least two labels");
  }
  rule.target = kind;
  rule.name = std::move(name).value();
  return {};
}

Status parse_target(std::string_view token, std::string_view target, bool bracketed, NetRule& rule) {
  if (bracketed) {
    const auto prefix = IpPrefix::parse(target);
    if (!prefix || !prefix->address.is_v6()) return bad(token, "brackets hold an IPv6 address or range");
    rule.target = NetRule::Target::kPrefix;
    rule.prefix = *prefix;
    return {};
  }
  if (target.empty()) return bad(token, "no target after \"@\"");
  if (target == "any") return {};
  if (target == "dns") {
    rule.target = NetRule::Target::kDns;
    return {};
  }
  if (const auto group = index_of(target, kGroups)) {
    rule.target = NetRule::Target::kGroup;
    rule.group = static_cast<NetGroup>(*group);
    return {};
  }
  if (target.starts_with("domain="))
    return parse_name_target(token, target.substr(7), NetRule::Target::kDomain, rule);
  if (target.starts_with("suffix="))
    return parse_name_target(token, target.substr(7), NetRule::Target::kSuffix, rule);
  if (target.starts_with("*."))
    return parse_name_target(token, target.substr(2), NetRule::Target::kSuffix, rule);
  if (const auto prefix = IpPrefix::parse(target); prefix && prefix->address.is_v4()) {
    rule.target = NetRule::Target::kPrefix;
    rule.prefix = *prefix;
    return {};
  }
  if (target.find('.') == std::string_view::npos) {
    const std::string meant = hint(target, kTargets);
    return bad(token, "unknown target " + quoted(target) +
                          (meant.empty() ? "; write domain=" + std::string(target.substr(0, 80)) +
                                               " for a one-label name"
                                         : meant));
  }
  return parse_name_target(token, target, NetRule::Target::kDomain, rule);
}

Status parse_ports(std::string_view token, std::string_view text, NetRule& rule) {
  if (text == "any") return {};
  const std::size_t dash = text.find('-');
  const auto first = parse_port(text.substr(0, dash));
  const auto last = dash == std::string_view::npos ? first : parse_port(text.substr(dash + 1));
  if (!first || !last) return bad(token, "ports are \"any\", a number or LOW-HIGH, not " + quoted(text));
  if (*first > *last) return bad(token, "the port range " + quoted(text) + " runs backwards");
  rule.first_port = *first;
  rule.last_port = *last;
  return {};
}

Status check_combination(std::string_view token, const NetRule& rule) {
  const bool icmp = rule.protocol == NetProtocol::kIcmpv4 || rule.protocol == NetProtocol::kIcmpv6;
  if (icmp && rule.direction != NetDirection::kEgress) return bad(token, "ICMP rules are for egress only");
  if (icmp && rule.names_port()) return bad(token, "ICMP has no ports");
  if (rule.by_name() && rule.direction == NetDirection::kIngress) {
    return bad(token, "a name cannot be checked for ingress; give an address or a group");
  }
  if (rule.target == NetRule::Target::kDns) {
    if (rule.direction != NetDirection::kEgress) return bad(token, "the dns target is for egress only");
    if (icmp) return bad(token, "the dns target is for udp and tcp");
    if (rule.names_port()) return bad(token, "the dns target has its port already");
  }
  return {};
}

}  // namespace

std::string_view net_group_name(NetGroup group) { return kGroups[static_cast<std::size_t>(group)]; }
std::string_view net_protocol_name(NetProtocol protocol) {
  return kProtocols[static_cast<std::size_t>(protocol)];
}
std::string_view net_action_name(NetAction action) { return kActions[static_cast<std::size_t>(action)]; }

Result<NetRule> parse_net_rule(std::string_view token) {
  NetRule rule;
  if (token.size() > 1024) return bad(token, "longer than 1024 bytes");
  rule.text = std::string(token);
  const std::size_t at = token.find('@');
  if (at == std::string_view::npos)
    return bad(token, "expected ACTION@TARGET, for example allow@example.com:tcp:443");
  const std::string_view head = token.substr(0, at);
  const std::size_t head_colon = head.find(':');
  const std::string_view action_word = head.substr(0, head_colon);
  const auto action = index_of(action_word, kActions);
  if (!action) return bad(token, "unknown action " + quoted(action_word) + hint(action_word, kActions));
  rule.action = static_cast<NetAction>(*action);
  if (head_colon != std::string_view::npos) {
    const std::string_view word = head.substr(head_colon + 1);
    const auto direction = index_of(word, kDirections);
    if (!direction) return bad(token, "unknown direction " + quoted(word) + hint(word, kDirections));
    rule.direction = static_cast<NetDirection>(*direction);
  }
  std::string_view rest = token.substr(at + 1);
  std::string_view target;
  const bool bracketed = rest.starts_with('[');
  if (bracketed) {
    const std::size_t close = rest.find(']');
    if (close == std::string_view::npos) return bad(token, "\"[\" without \"]\"");
    target = rest.substr(1, close - 1);
    rest = rest.substr(close + 1);
    if (!rest.empty() && rest[0] != ':') return bad(token, "unexpected text behind \"]\"");
  } else {
    const std::size_t colon = rest.find(':');
    target = rest.substr(0, colon);
    rest = colon == std::string_view::npos ? std::string_view{} : rest.substr(colon);
    // An IPv6 address without brackets has a second colon where no protocol stands.
    const std::string_view all = token.substr(at + 1);
    if (const auto prefix = IpPrefix::parse(all); prefix && prefix->address.is_v6()) {
      return bad(token, "an IPv6 address stands in brackets: [" + std::string(all) + "]");
    }
  }
  MSB_TRY(parse_target(token, target, bracketed, rule));
  if (!rest.empty()) {
    rest.remove_prefix(1);
    const std::size_t colon = rest.find(':');
    const std::string_view word = rest.substr(0, colon);
    const auto protocol = index_of(word, kProtocols);
    if (!protocol) {
      const bool number = !word.empty() && std::all_of(word.begin(), word.end(), [](char c) {
        return (c >= '0' && c <= '9') || c == '-';
      });
      return bad(token, number ? "a protocol stands before the port: tcp:" + std::string(word.substr(0, 20))
                               : "unknown protocol " + quoted(word) + hint(word, kProtocols));
    }
    rule.protocol = static_cast<NetProtocol>(*protocol);
    if (colon != std::string_view::npos) {
      const std::string_view ports = rest.substr(colon + 1);
      if (ports.find(':') != std::string_view::npos) return bad(token, "trailing text behind the ports");
      MSB_TRY(parse_ports(token, ports, rule));
    }
  }
  MSB_TRY(check_combination(token, rule));
  return rule;
}

Result<std::vector<NetRule>> parse_net_rules(std::string_view tokens) {
  std::vector<NetRule> rules;
  while (true) {
    const std::size_t comma = tokens.find(',');
    std::string_view token = tokens.substr(0, comma);
    while (!token.empty() && token.front() == ' ') token.remove_prefix(1);
    while (!token.empty() && token.back() == ' ') token.remove_suffix(1);
    if (rules.size() == kMaxNetRules)
      return make_error(Errc::kLimit, "more than %zu network rules", kMaxNetRules);
    MSB_ASSIGN(NetRule rule, parse_net_rule(token));
    rules.push_back(std::move(rule));
    if (comma == std::string_view::npos) return rules;
    tokens.remove_prefix(comma + 1);
  }
}

}  // namespace msb::proto
