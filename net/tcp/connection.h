// SPDX-License-Identifier: Apache-2.0
// One TCP connection with the guest (RFC 9293), as a pure machine: events and the time go in, segments and
// deliveries come out through ConnectionIo. It knows no socket, no clock and no frame.
//
// Theory of operation. The guest is one end; the other is "the host side", whatever stream the owner joins to
// it.
//
//   guest dials:  kDialing --host_connected--> kSynReceived --ACK--> kOpen --both directions closed-->
//   kClosed host dials:   kSynSent --SYN,ACK--> kOpen          (SYN alone: simultaneous open, to
//   kSynReceived)
//
//  - The guest's SYN is answered only after host_connected(); refuse() resets it.
//  - Guest to host: a large segment in order is offered to deliver() straight from the frame; small ones are
//    gathered until the batch of frames ends, since a system call for each would cost more than everything
//    else. What deliver() does not take waits in
//    `pending_`, whose free room is the window we advertise; its memory comes from a common budget, and what
//    does not fit is not acknowledged. Bytes beyond a gap are dropped and acknowledged again: the link loses
//    nothing by itself, and there is only ever one version of a byte, the first that arrived in order.
//  - Host to guest: the owner fills host_buffer(); bytes stay until acknowledged, and are sent again after a
//  timeout
//    (RFC 6298) or three duplicate acknowledgments. There is no congestion on the link, so the guest's window
//    alone limits what is in flight until something is lost.
//  - A half-close travels alone in each direction. A reset travels at once in both.
//  - RFC 5961: a RST or SYN inside the window but not at its edge is answered by a challenge, not obeyed.
//
// Acknowledgments are collected: the owner calls end_batch() after each batch of frames.
#pragma once

#include <cstdint>
#include <optional>

#include "base/clock.h"
#include "net/tcp/ring_buffer.h"
#include "net/wire/transport.h"

namespace msb::net {

// A segment to the guest. Addresses and ports are the owner's business.
struct TcpOutput {
  std::uint32_t sequence = 0;
  std::uint32_t acknowledgment = 0;
  std::uint8_t flags = 0;
  std::uint16_t window = 0;
  std::optional<std::uint16_t> mss;
  std::optional<std::uint8_t> window_scale;
  std::array<ByteView, 2> payload;  // borrowed until send_segment() returns
  std::uint16_t segment_size = 0;   // payload above this has to be cut into segments of this size (offload)
};

class ConnectionIo {
 public:
  virtual ~ConnectionIo() = default;
  virtual void send_segment(const TcpOutput& segment) = 0;
  // False while the way to the guest is full: data waits for output_ready(); acknowledgments are sent all the
  // same.
  [[nodiscard]] virtual bool can_send() const = 0;
  // Takes bytes for the host side; returns how many (0: blocked until host_writable()).
  [[nodiscard]] virtual std::size_t deliver(ByteView bytes) = 0;
  // The guest closed its direction and every byte was delivered.
  virtual void deliver_eof() = 0;
  // Both ends have agreed: the connection is open.
  virtual void opened() = 0;
  // The guest reset, or does not answer any more: abort the host side. finished() follows.
  virtual void aborted() = 0;
  // Nothing more will happen; the owner destroys the connection after the current call returns.
  virtual void finished() = 0;
};

class Connection {
 public:
  struct Config {
    std::uint16_t mss = 1460;           // what we accept, and the most we send
    std::uint32_t max_segment = 65483;  // largest payload handed to send_segment(); above mss needs offload
    Duration keep_alive = std::chrono::hours(2);
    int max_retries = 12;
    int max_syn_retries = 5;
  };
  enum class State : std::uint8_t { kDialing, kSynReceived, kSynSent, kOpen, kClosed };

  // The guest's SYN came. `initial` is our first sequence number (unpredictable, RFC 6528).
  Connection(const Config& config, BufferBudget& budget, const TcpSegment& syn, std::uint32_t initial,
             Instant now);
  // We dial the guest: call start().
  Connection(const Config& config, BufferBudget& budget, std::uint32_t initial, Instant now);

  // --- events from the guest
  void on_segment(const TcpSegment& segment, Instant now, ConnectionIo& io);
  // --- events from the host side
  void start(Instant now, ConnectionIo& io);
  void host_connected(Instant now, ConnectionIo& io);
  // Resets the guest's attempt or connection.
  void reset(ConnectionIo& io);
  // Ends without a word to the guest (an ICMP error tells it instead).
  void forget(ConnectionIo& io);
  // Room for bytes towards the guest; empty when full or closed. Before the guest has answered there is room
  // for one piece, which waits for it: a host that speaks first is heard without asking twice.
  [[nodiscard]] MutableBytes host_buffer();
  void host_received(std::size_t count, Instant now, ConnectionIo& io);
  void host_eof(Instant now, ConnectionIo& io);
  // deliver() may succeed again.
  void host_writable(Instant now, ConnectionIo& io);
  // --- events from the owner
  void output_ready(Instant now, ConnectionIo& io) { transmit(now, io); }
  // The batch of frames has ended: what was gathered is delivered, then acknowledged.
  void end_batch(ConnectionIo& io);
  [[nodiscard]] std::optional<Instant> deadline() const;
  void on_timer(Instant now, ConnectionIo& io);

  [[nodiscard]] State state() const { return state_; }
  [[nodiscard]] bool wants_end_batch() const { return ack_pending_ || gathering_; }
  // Bytes wait that deliver() did not take.
  [[nodiscard]] bool wants_host_writable() const { return !pending_.empty() && !gathering_; }
  // host_buffer() would be empty only because memory or window is used up.
  [[nodiscard]] bool send_buffer_full() const {
    return send_.size() >= (state_ == State::kOpen ? send_.target() : 1);
  }
  // Data could be sent if can_send() were true.
  [[nodiscard]] bool wants_output() const;
  [[nodiscard]] bool host_eof_seen() const { return host_eof_; }
  [[nodiscard]] bool guest_fin_seen() const { return guest_fin_; }
  // The guest has acknowledged all there will ever be.
  [[nodiscard]] bool guest_has_all() const { return fin_acked_; }
  [[nodiscard]] std::size_t buffered() const { return pending_.size() + send_.size(); }
  [[nodiscard]] std::uint64_t retransmits() const { return retransmits_; }

 private:
  [[nodiscard]] std::uint32_t in_flight() const { return snd_nxt_ - snd_una_; }
  [[nodiscard]] std::uint32_t receive_window() const { return rcv_adv_ - rcv_nxt_; }
  [[nodiscard]] std::uint32_t data_end() const { return snd_una_ + static_cast<std::uint32_t>(send_.size()); }
  void accept_options(const TcpSegment& segment);
  void update_advertised();
  [[nodiscard]] TcpOutput base_segment(std::uint8_t flags) const;
  void send_ack(ConnectionIo& io);
  void send_syn(ConnectionIo& io);
  void send_data(std::uint32_t sequence, std::size_t count, ConnectionIo& io);
  void transmit(Instant now, ConnectionIo& io);
  void retransmit_first(ConnectionIo& io);
  void on_segment_syn_sent(const TcpSegment& segment, Instant now, ConnectionIo& io);
  [[nodiscard]] bool acceptable(const TcpSegment& segment) const;
  [[nodiscard]] bool process_ack(const TcpSegment& segment, Instant now, ConnectionIo& io);
  void process_payload(const TcpSegment& segment, ConnectionIo& io);
  void drain(ConnectionIo& io);
  void measure(Instant now);
  void abort(ConnectionIo& io);
  void close_if_done(ConnectionIo& io);
  void arm(Instant now);

  Config config_;
  State state_ = State::kDialing;
  bool ack_pending_ = false;
  bool draining_ = false;
  bool gathering_ = false;  // pending_ was empty when this batch of frames began
  bool host_eof_ = false;
  bool fin_sent_ = false;
  bool fin_acked_ = false;
  bool guest_fin_ = false;
  bool eof_delivered_ = false;
  bool scaling_ = false;
  std::uint8_t snd_scale_ = 0;
  std::uint16_t snd_mss_ = 536;

  std::uint32_t iss_;
  std::uint32_t snd_una_;
  std::uint32_t snd_nxt_;
  std::uint32_t snd_max_;  // highest ever sent
  std::uint32_t snd_wnd_ = 0;
  std::uint32_t snd_wl1_ = 0;
  std::uint32_t snd_wl2_ = 0;
  std::uint32_t irs_ = 0;
  std::uint32_t rcv_nxt_ = 0;
  std::uint32_t rcv_adv_ = 0;  // right edge we advertised
  std::uint32_t last_window_sent_ = 0;

  std::uint32_t cwnd_ = UINT32_MAX;  // bounded only after a loss
  std::uint32_t recover_ = 0;
  int duplicate_acks_ = 0;
  bool recovering_ = false;

  Duration srtt_{0};
  Duration rttvar_{0};
  Duration rto_{std::chrono::seconds(1)};
  bool timing_ = false;
  std::uint32_t timed_sequence_ = 0;
  Instant timed_at_;
  int retries_ = 0;
  std::optional<Instant> retransmit_at_;
  Instant last_heard_;
  int keep_alive_probes_ = 0;
  std::uint64_t retransmits_ = 0;

  RingBuffer pending_;
  RingBuffer send_;
};

// The reset that answers a segment belonging to nothing (RFC 9293 3.10.7.1); nullopt for a reset itself.
[[nodiscard]] std::optional<TcpOutput> reset_for(const TcpSegment& segment);

}  // namespace msb::net
