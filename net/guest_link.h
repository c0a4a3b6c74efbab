// SPDX-License-Identifier: Apache-2.0
// The point-to-point link as the services see it: packets to the guest as values, whatever the framing, MTU,
// offloads and rate limits are.
#pragma once

#include <array>
#include <cstdint>
#include <functional>

#include "net/frame_port.h"
#include "net/tcp/connection.h"
#include "net/token_bucket.h"
#include "net/wire/drop.h"
#include "net/wire/ethernet.h"
#include "net/wire/ip.h"
#include "proto/net_spec.h"

namespace msb::net {

struct LinkCounters {
  std::array<std::uint64_t, static_cast<std::size_t>(Drop::kCount)> drops{};
};

class GuestLink {
 public:
  GuestLink(EventLoop& loop, FramePort& port, const proto::NetGuestSpec& guest,
            const proto::NetLimitsSpec& limits);
  ~GuestLink();

  [[nodiscard]] const proto::NetGuestSpec& guest() const { return guest_; }
  [[nodiscard]] std::uint16_t mtu() const { return guest_.mtu; }
  // The largest TCP payload of one segment, and of one send_tcp() call.
  [[nodiscard]] std::uint16_t mss(IpAddress::Family family) const;
  [[nodiscard]] std::uint32_t max_segment(IpAddress::Family family) const;
  // The gateway's address of that family; unspecified if the guest does not have it.
  [[nodiscard]] IpAddress gateway(IpAddress::Family family) const;
  [[nodiscard]] IpAddress guest_address(IpAddress::Family family) const;

  // Bulk data should wait while this is false; set_on_writable()'s callback tells when it is true again.
  [[nodiscard]] bool can_send();
  void set_on_writable(std::function<void()> callback) { on_writable_ = std::move(callback); }
  void send_frame(const MacAddress& destination, std::uint16_t type, ByteView payload);
  // A complete IP packet no longer than the MTU.
  void send_packet(ByteView packet);
  // Cut into fragments where it exceeds the MTU.
  void send_udp(const IpAddress& source, std::uint16_t source_port, const IpAddress& destination,
                std::uint16_t destination_port, ByteView payload);
  void send_tcp(const IpAddress& source, std::uint16_t source_port, const IpAddress& destination,
                std::uint16_t destination_port, const TcpOutput& segment);
  void flush() { port_.flush(); }

  // Charges a frame from the guest against its limits and pauses reading while they are exceeded.
  void charge_egress(std::size_t bytes);
  void drop(Drop reason) { ++counters_.drops[static_cast<std::size_t>(reason)]; }
  [[nodiscard]] const LinkCounters& counters() const { return counters_; }

 private:
  void send_ip(ByteView headers, std::span<const ByteView> payload, bool v6, const VnetHeader& vnet);
  void charge_ingress(std::size_t bytes);
  EventLoop& loop_;
  FramePort& port_;
  proto::NetGuestSpec guest_;
  LinkCounters counters_;
  TokenBucket egress_bytes_;
  TokenBucket egress_packets_;
  TokenBucket ingress_bytes_;
  TokenBucket ingress_packets_;
  EventLoop::TimerToken egress_timer_ = 0;
  EventLoop::TimerToken ingress_timer_ = 0;
  bool ingress_limited_ = false;
  std::function<void()> on_writable_;
  std::uint32_t fragment_id_ = 1;
};

}  // namespace msb::net
