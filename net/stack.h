// SPDX-License-Identifier: Apache-2.0
// The way of a frame from the guest: every check of its headers and addresses, then to the service it is for.
#pragma once

#include "net/engine.h"
#include "net/guest_link.h"
#include "net/icmp_relay.h"
#include "net/reassembly.h"
#include "net/responders.h"
#include "net/tcp_service.h"
#include "net/udp_relay.h"

namespace msb::net {

class Stack {
 public:
  struct Services {
    Engine& engine;
    GuestLink& link;
    TcpService& tcp;
    UdpRelay& udp;
    IcmpRelay& icmp;
  };
  Stack(EventLoop& loop, Services services) : loop_(loop), s_(services), responders_(services.link) {}

  void on_frame(ByteView frame, const VnetHeader& vnet);
  void on_batch_end() { s_.tcp.end_batch(); }

 private:
  [[nodiscard]] Drop take(ByteView frame, const VnetHeader& vnet);
  [[nodiscard]] Drop take_packet(const IpPacket& packet, Checksum checksum);
  [[nodiscard]] Drop take_fragment(const IpPacket& packet);
  EventLoop& loop_;
  Services s_;
  Responders responders_;
  Reassembler reassembler_;
};

}  // namespace msb::net
