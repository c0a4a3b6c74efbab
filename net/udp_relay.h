// SPDX-License-Identifier: Apache-2.0
// UDP flows: one connected host socket per (guest port, remote address and port); ICMP errors of the host
// become ICMP errors to the guest. Published UDP ports: a flow per client, towards the guest.
#pragma once

#include <array>
#include <list>
#include <map>
#include <memory>
#include <unordered_map>

#include "base/event_loop.h"
#include "net/dns_proxy.h"
#include "net/engine.h"
#include "net/guest_link.h"
#include "net/wire/transport.h"

namespace msb::net {

struct UdpCounters {
  std::uint64_t opened = 0;
  std::uint64_t denied = 0;
  std::uint64_t dropped = 0;
};

class UdpRelay {
 public:
  static constexpr Duration kIdle = std::chrono::seconds(60);
  UdpRelay(EventLoop& loop, GuestLink& link, Engine& engine, DnsProxy& dns, std::uint32_t max_flows);
  ~UdpRelay();
  UdpRelay(const UdpRelay&) = delete;
  UdpRelay& operator=(const UdpRelay&) = delete;

  void on_packet(const IpPacket& packet, const UdpDatagram& datagram);
  // A datagram for a published port: `socket` (borrowed, of the port) answers `peer`.
  void on_inbound(int socket, const IpAddress& peer, std::uint16_t peer_port, std::uint16_t guest_port,
                  ByteView payload);
  // Forgets flows that answer through `socket`, which is about to be closed.
  void forget_socket(int socket);
  void rejudge_all();
  void close_all(const char* why);
  [[nodiscard]] const UdpCounters& counters() const { return counters_; }
  [[nodiscard]] std::size_t flows() const { return flows_.size(); }

 private:
  struct Key {
    IpAddress remote;
    std::uint16_t remote_port = 0;
    std::uint16_t guest_port = 0;
    friend auto operator<=>(const Key&, const Key&) = default;
  };
  struct Flow {
    FlowRecord record;
    UniqueFd socket;  // egress
    EventLoop::IoToken token;
    int shared = -1;  // ingress: the published port's socket
    IpAddress peer;   // ingress: whom to answer
    std::uint16_t peer_port = 0;
    Instant last;
  };
  using Flows = std::map<Key, Flow>;
  void open_flow(const IpPacket& packet, const UdpDatagram& datagram, const Key& key);
  void send_to_host(Flow& flow, const Key& key, ByteView payload);
  void on_readable(const Key& key);
  void report_error(const Key& key, int error);
  Flows::iterator close(Flows::iterator it, const char* how);
  void expire();
  void arm();
  void answer_dns(const IpPacket& packet, const UdpDatagram& datagram);

  EventLoop& loop_;
  GuestLink& link_;
  Engine& engine_;
  DnsProxy& dns_;
  std::uint32_t max_flows_;
  Flows flows_;
  std::map<Key, FlowRecord> denied_;  // so that a denied stream is audited once, not per datagram
  EventLoop::TimerToken timer_ = 0;
  UdpCounters counters_;
  std::unique_ptr<std::uint8_t[]> buffer_;
  std::shared_ptr<bool> alive_;
};

}  // namespace msb::net
