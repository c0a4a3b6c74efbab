// SPDX-License-Identifier: Apache-2.0
// TCP flows: the guest's connections out to host sockets, published ports in, and DNS over TCP.
//
// Theory of operation. A flow joins a Connection (the guest's end) to a host socket. Events of either side
// run the machine, which calls back into the flow. Before a flow whose policy asks for a name may pass guest
// bytes, they are collected in `held_` and read by sniff_name(); once judged, they go first. Streams that
// were confirmed by an HTTP Host stay under an HttpGuard. This inspection stage is where interception of TLS
// will stand: it sees the guest's bytes in order, exactly once, before any of them reaches the host.
//
// Flows that end inside a callback are collected and destroyed when the entry point that ran them is done.
#pragma once

#include <functional>
#include <memory>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/event_loop.h"
#include "net/dns_proxy.h"
#include "net/engine.h"
#include "net/guest_link.h"
#include "net/random.h"
#include "net/upstream_proxy.h"

namespace msb::net {

struct TcpCounters {
  std::uint64_t opened = 0;
  std::uint64_t accepted = 0;
  std::uint64_t denied = 0;
  std::uint64_t refused = 0;
  std::uint64_t reset = 0;
  std::uint64_t retransmits = 0;
};

class TcpFlow;

class TcpService {
 public:
  struct Key {
    IpAddress remote;
    std::uint16_t remote_port = 0;
    std::uint16_t guest_port = 0;
    friend bool operator==(const Key&, const Key&) = default;
  };

  TcpService(EventLoop& loop, GuestLink& link, Engine& engine, DnsProxy& dns, RandomSource& random,
             const proto::NetSpec& spec, std::string proxy_password);
  ~TcpService();
  TcpService(const TcpService&) = delete;
  TcpService& operator=(const TcpService&) = delete;

  // A TCP packet of the guest's.
  void on_packet(const IpPacket& packet, Checksum checksum);
  // After each batch of frames: acknowledgments go out.
  void end_batch();
  // The link can take bulk data again.
  void on_link_writable();
  // Judges every open flow by the current policy and resets those now denied.
  void rejudge_all();
  // Resets everything (byte budget spent).
  void reset_all(const char* why);
  // A client was accepted on a published port: connects it to the guest's `port`. Closes it if that cannot
  // be.
  void accept_inbound(UniqueFd client, const IpAddress& peer, std::uint16_t peer_port,
                      std::uint16_t guest_port);

  [[nodiscard]] const TcpCounters& counters() const { return counters_; }
  [[nodiscard]] const BufferBudget& budget() const { return budget_; }
  [[nodiscard]] std::size_t flows() const { return flows_.size(); }

 private:
  friend class TcpFlow;
  struct Hash {
    std::uint64_t secret;
    std::size_t operator()(const Key& key) const;
  };
  void open_outbound(const IpPacket& packet, const TcpSegment& segment, const Key& key);
  void send_reset(const IpPacket& packet, const TcpSegment& segment);
  [[nodiscard]] std::uint32_t initial_sequence(const Key& key);
  void schedule(TcpFlow& flow);
  void arm_timer();
  void run_timers();
  void reap();

  EventLoop& loop_;
  GuestLink& link_;
  Engine& engine_;
  DnsProxy& dns_;
  RandomSource& random_;
  std::uint32_t max_flows_;
  std::optional<UpstreamProxy> proxy_;
  BufferBudget budget_;
  TcpCounters counters_;
  std::unordered_map<Key, std::unique_ptr<TcpFlow>, Hash> flows_;
  std::vector<TcpFlow*> acks_;     // flows with an acknowledgment to send
  std::vector<TcpFlow*> waiting_;  // flows with data for the link
  std::vector<Key> ended_;
  // One entry for each flow that waits for a time, at flow->scheduled; it goes when the flow does, since a
  // guest may open and drop connections by the million before the first of their deadlines.
  std::set<std::pair<Instant, TcpFlow*>> timers_;
  EventLoop::TimerToken timer_ = 0;
  Instant timer_at_;
};

}  // namespace msb::net
