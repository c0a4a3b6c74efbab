// SPDX-License-Identifier: Apache-2.0
// What makes the link a network: ARP, neighbour discovery, router advertisements and DHCP, all answered
// statically from the specification. The guest's agent configures the same values by itself; these are for
// images that insist.
#pragma once

#include "net/guest_link.h"
#include "net/wire/transport.h"

namespace msb::net {

class Responders {
 public:
  explicit Responders(GuestLink& link) : link_(link) {}
  [[nodiscard]] Drop on_arp(ByteView payload);
  // Neighbour and router solicitations. kUnknownProtocol for messages that are not its business.
  [[nodiscard]] Drop on_ndp(const IpPacket& packet, const IcmpMessage& message);
  // A DHCPv4 client's message (UDP to port 67; RFC 2131).
  [[nodiscard]] Drop on_dhcp(ByteView datagram);

 private:
  void advertise_neighbor(const IpAddress& target, const IpAddress& to, bool solicited);
  void advertise_router(const IpAddress& to);
  GuestLink& link_;
};

}  // namespace msb::net
