// SPDX-License-Identifier: Apache-2.0
#include "net/address_class.h"

#include <algorithm>
#include <array>
#include <optional>

namespace msb::net {
namespace {

struct Entry {
  IpPrefix prefix;
  AddressClass address_class;
};

constexpr IpPrefix v4(unsigned a, unsigned b, unsigned c, unsigned d, std::uint8_t length) {
  return {IpAddress::v4(a << 24 | b << 16 | c << 8 | d), length};
}

constexpr IpPrefix v6(std::array<std::uint16_t, 8> groups, std::uint8_t length) {
  std::array<std::uint8_t, 16> bytes{};
  for (std::size_t i = 0; i < 8; ++i) {
    bytes[2 * i] = static_cast<std::uint8_t>(groups[i] >> 8);
    bytes[2 * i + 1] = static_cast<std::uint8_t>(groups[i]);
  }
  return {IpAddress::v6(bytes), length};
}

using enum AddressClass;

// IANA IPv4 Special-Purpose Address Registry; the longest match decides.
constexpr std::array kIpv4Table{
    Entry{v4(0, 0, 0, 0, 8), kReserved},        // "this network"
    Entry{v4(10, 0, 0, 0, 8), kPrivate},        // RFC 1918
    Entry{v4(100, 64, 0, 0, 10), kPrivate},     // RFC 6598
    Entry{v4(127, 0, 0, 0, 8), kLoopback},      //
    Entry{v4(169, 254, 0, 0, 16), kLinkLocal},  // RFC 3927
    Entry{v4(172, 16, 0, 0, 12), kPrivate},     // RFC 1918
    Entry{v4(192, 0, 0, 0, 24), kReserved},     // IETF protocol assignments, but for:
    Entry{v4(192, 0, 0, 9, 32), kPublic},       // PCP anycast
    Entry{v4(192, 0, 0, 10, 32), kPublic},      // TURN anycast
    Entry{v4(192, 0, 2, 0, 24), kReserved},     // documentation
    Entry{v4(192, 88, 99, 0, 24), kReserved},   // 6to4 relay anycast
    Entry{v4(192, 168, 0, 0, 16), kPrivate},    // RFC 1918
    Entry{v4(198, 18, 0, 0, 15), kReserved},    // benchmarking
    Entry{v4(198, 51, 100, 0, 24), kReserved},  // documentation
    Entry{v4(203, 0, 113, 0, 24), kReserved},   // documentation
    Entry{v4(224, 0, 0, 0, 4), kMulticast},     //
    Entry{v4(240, 0, 0, 0, 4), kReserved},      // future use and broadcast
};

// IANA IPv6 Special-Purpose Address Registry; what no entry covers is not assigned, hence reserved.
constexpr std::array kIpv6Table{
    Entry{v6({0x2000}, 3), kPublic},                         // global unicast, but for:
    Entry{v6({0x2001, 0}, 23), kReserved},                   // IETF protocol assignments, but for:
    Entry{v6({0x2001, 1, 0, 0, 0, 0, 0, 1}, 128), kPublic},  // PCP anycast
    Entry{v6({0x2001, 1, 0, 0, 0, 0, 0, 2}, 128), kPublic},  // TURN anycast
    Entry{v6({0x2001, 1, 0, 0, 0, 0, 0, 3}, 128), kPublic},  // DNS-SD anycast
    Entry{v6({0x2001, 3}, 32), kPublic},                     // AMT
    Entry{v6({0x2001, 4, 0x112}, 48), kPublic},              // AS112
    Entry{v6({0x2001, 0x20}, 28), kPublic},                  // ORCHIDv2
    Entry{v6({0x2001, 0x30}, 28), kPublic},                  // drone remote identification
    Entry{v6({0x2001, 0xdb8}, 32), kReserved},               // documentation
    Entry{v6({0x2002}, 16), kReserved},                      // 6to4
    Entry{v6({0x3fff}, 20), kReserved},                      // documentation
    Entry{v6({0x64, 0xff9b}, 96), kPublic},                  // NAT64: the embedded address decides
    Entry{v6({0x64, 0xff9b, 1}, 48), kReserved},             // local-use NAT64 (RFC 8215)
    Entry{v6({0xfc00}, 7), kPrivate},                        // unique local
    Entry{v6({0xfe80}, 10), kLinkLocal},                     //
    Entry{v6({0xfec0}, 10), kReserved},                      // site local, deprecated
    Entry{v6({0xff00}, 8), kMulticast},                      //
    Entry{v6({0, 0, 0, 0, 0, 0, 0, 1}, 128), kLoopback},     //
};

// Services that hand out credentials or steer the machine, as the clouds document them.
constexpr std::array kMetadata4{
    v4(169, 254, 169, 254, 32),  // AWS, Azure, GCP, OpenStack, Oracle, DigitalOcean, Hetzner and others
    v4(169, 254, 169, 253, 32),  // AWS resolver
    v4(169, 254, 169, 123, 32),  // AWS time
    v4(169, 254, 170, 2, 32),    // AWS ECS task credentials
    v4(169, 254, 170, 23, 32),   // AWS EKS pod identity
    v4(169, 254, 42, 42, 32),    // Scaleway
    v4(169, 254, 0, 23, 32),     // Tencent
    v4(168, 63, 129, 16, 32),    // Azure platform server
    v4(192, 0, 0, 192, 32),      // Oracle classic
    v4(100, 100, 100, 200, 32),  // Alibaba
};
constexpr std::array kMetadata6{
    v6({0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254}, 128),       // AWS
    v6({0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x253}, 128),       // AWS resolver
    v6({0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x123}, 128),       // AWS time
    v6({0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23}, 128),        // AWS EKS pod identity
    v6({0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254}, 128),        // GCP
    v6({0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42}, 128),         // Scaleway
    v6({0xfd00, 0xc1, 0, 0, 0, 0, 0xa9fe, 0xa9fe}, 128),  // Oracle
    v6({0xfe80, 0, 0, 0, 0, 0, 0xa9fe, 0xa9fe}, 128),     // OpenStack
};

template <std::size_t N>
AddressClass lookup(const IpAddress& address, const std::array<Entry, N>& table, AddressClass otherwise) {
  AddressClass best = otherwise;
  int best_length = -1;
  for (const Entry& entry : table) {
    if (entry.prefix.length > best_length && entry.prefix.contains(address)) {
      best = entry.address_class;
      best_length = entry.prefix.length;
    }
  }
  return best;
}

IpAddress v4_at(const IpAddress& address, std::size_t offset) {
  return *IpAddress::from_bytes(std::span(address.raw()).subspan(offset, 4));
}

constexpr IpPrefix kMapped = v6({0, 0, 0, 0, 0, 0xffff}, 96);
constexpr IpPrefix kCompatible = v6({0}, 96);
constexpr IpPrefix kTranslated = v6({0, 0, 0, 0, 0xffff, 0}, 96);
constexpr IpPrefix kNat64 = v6({0x64, 0xff9b}, 96);
constexpr IpPrefix k6to4 = v6({0x2002}, 16);
constexpr IpPrefix kTeredo = v6({0x2001, 0}, 32);

}  // namespace

std::string_view address_class_name(AddressClass address_class) {
  switch (address_class) {
    case kPublic:
      return "public";
    case kPrivate:
      return "private";
    case kLinkLocal:
      return "link-local";
    case kMulticast:
      return "multicast";
    case kReserved:
      return "reserved";
    case kUnspecified:
      return "unspecified";
    case kLoopback:
      return "loopback";
    case kMetadata:
      return "meta";
    case kHost:
      return "host";
  }
  return "?";
}

IpAddress unmap(const IpAddress& address) { return kMapped.contains(address) ? v4_at(address, 12) : address; }

void AddressClassifier::set_host_prefixes(const std::vector<IpPrefix>& prefixes) {
  host_addresses_.clear();
  host_ranges_.clear();
  for (const IpPrefix& prefix : prefixes) {
    // 127/8 and ::1 stay "loopback".
    if (lookup(prefix.address, kIpv4Table, kPublic) == kLoopback && prefix.address.is_v4()) continue;
    if (prefix.address.is_v6() && lookup(prefix.address, kIpv6Table, kReserved) == kLoopback) continue;
    if (prefix.is_single())
      host_addresses_.push_back(prefix.address);
    else
      host_ranges_.push_back(prefix);
  }
  std::sort(host_addresses_.begin(), host_addresses_.end());
}

bool AddressClassifier::is_gateway(const IpAddress& address) const {
  return std::find(gateways_.begin(), gateways_.end(), address) != gateways_.end();
}

bool AddressClassifier::is_host_address(const IpAddress& address) const {
  return std::binary_search(host_addresses_.begin(), host_addresses_.end(), address) ||
         std::any_of(host_ranges_.begin(), host_ranges_.end(),
                     [&](const IpPrefix& range) { return range.contains(address); });
}

AddressClass AddressClassifier::classify_v4(const IpAddress& address) const {
  if (is_gateway(address) || is_host_address(address)) return kHost;
  if (address.is_unspecified()) return kUnspecified;
  for (const IpPrefix& prefix : kMetadata4) {
    if (prefix.contains(address)) return kMetadata;
  }
  return lookup(address, kIpv4Table, kPublic);
}

AddressClass AddressClassifier::classify_v6(const IpAddress& address) const {
  if (is_gateway(address) || is_host_address(address)) return kHost;
  if (address.is_unspecified()) return kUnspecified;
  for (const IpPrefix& prefix : kMetadata6) {
    if (prefix.contains(address)) return kMetadata;
  }
  if (kMapped.contains(address)) return classify_v4(v4_at(address, 12));
  AddressClass own = lookup(address, kIpv6Table, kReserved);
  if (own == kLoopback) return own;
  const auto carry = [&](const IpAddress& inner) { own = std::max(own, classify_v4(inner)); };
  if (kNat64.contains(address) || kCompatible.contains(address) || kTranslated.contains(address))
    carry(v4_at(address, 12));
  for (const IpPrefix& prefix : nat64_) {
    if (!prefix.contains(address)) continue;
    own = own == kPrivate ? kPublic : own;  // a declared translator: the embedded address decides
    carry(v4_at(address, 12));
  }
  if (k6to4.contains(address)) carry(v4_at(address, 2));
  if (kTeredo.contains(address)) {
    carry(v4_at(address, 4));  // the server
    carry(IpAddress::v4(~v4_at(address, 12).v4_value()));
  }
  // ISATAP (RFC 5214 6.1): interface identifier [02]00:5efe:a.b.c.d under any prefix.
  const auto& raw = address.raw();
  if ((raw[8] & 0xfd) == 0 && raw[9] == 0 && raw[10] == 0x5e && raw[11] == 0xfe) carry(v4_at(address, 12));
  return own;
}

AddressClass AddressClassifier::classify(const IpAddress& address) const {
  return address.is_v4() ? classify_v4(address) : classify_v6(address);
}

}  // namespace msb::net
