// SPDX-License-Identifier: Apache-2.0
// What kind of place an address is. Pure: the sandbox's gateways and the host's own addresses are given.
//
// An IPv6 address that carries an IPv4 address (mapped, compatible, translated, NAT64, 6to4, Teredo, ISATAP)
// belongs to the more forbidden of what it is itself and of what it carries, so that no spelling of a
// forbidden address is less forbidden than the address. "Public" is only what IANA's special-purpose
// registries call globally reachable.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "base/ip_address.h"

namespace msb::net {

// Ordered from harmless to dangerous: of two classes the greater decides.
enum class AddressClass : std::uint8_t {
  kPublic,   // globally reachable unicast
  kPrivate,  // RFC 1918, RFC 6598 (carrier-grade NAT), unique local
  kLinkLocal,
  kMulticast,
  kReserved,  // everything else that is not globally reachable, broadcast and transition mechanisms among it
  kUnspecified,  // 0.0.0.0 and ::
  kLoopback,
  kMetadata,  // credential and platform services of the clouds
  kHost,      // this sandbox's gateway, and every address of this machine
};
[[nodiscard]] std::string_view address_class_name(AddressClass address_class);

// Loopback, metadata and host addresses: reachable only through a rule that names them.
[[nodiscard]] constexpr bool is_guarded(AddressClass address_class) {
  return address_class >= AddressClass::kLoopback;
}

class AddressClassifier {
 public:
  AddressClassifier() = default;
  // `gateways`: the sandbox's own; `nat64`: /96 prefixes besides 64:ff9b::/96.
  AddressClassifier(std::vector<IpAddress> gateways, std::vector<IpPrefix> nat64)
      : gateways_(std::move(gateways)), nat64_(std::move(nat64)) {}
  // The ranges this machine delivers to itself; replaced whenever they change. Sorted inside.
  void set_host_prefixes(const std::vector<IpPrefix>& prefixes);

  [[nodiscard]] AddressClass classify(const IpAddress& address) const;
  [[nodiscard]] bool is_gateway(const IpAddress& address) const;

 private:
  [[nodiscard]] AddressClass classify_v4(const IpAddress& address) const;
  [[nodiscard]] AddressClass classify_v6(const IpAddress& address) const;
  [[nodiscard]] bool is_host_address(const IpAddress& address) const;

  std::vector<IpAddress> gateways_;
  std::vector<IpPrefix> nat64_;
  std::vector<IpAddress> host_addresses_;  // sorted single addresses
  std::vector<IpPrefix> host_ranges_;      // the few that are longer
};

// ::ffff:a.b.c.d as the IPv4 address it is; every other address as it stands. What is dialled is this.
[[nodiscard]] IpAddress unmap(const IpAddress& address);

}  // namespace msb::net
