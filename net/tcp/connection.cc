// SPDX-License-Identifier: Apache-2.0
#include "net/tcp/connection.h"

#include <algorithm>

#include "base/check.h"

namespace msb::net {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr std::size_t kGatherBelow = 4096;
constexpr Duration kMinRto = milliseconds(200);
constexpr Duration kMaxRto = seconds(60);
constexpr Duration kKeepAliveInterval = seconds(75);
constexpr int kKeepAliveProbes = 9;
constexpr std::uint8_t kReceiveScale = 7;
constexpr int kDuplicateAcks = 3;

// Sequence numbers compare modulo 2^32 (RFC 9293 3.4).
bool before(std::uint32_t a, std::uint32_t b) { return static_cast<std::int32_t>(a - b) < 0; }
bool after(std::uint32_t a, std::uint32_t b) { return before(b, a); }

std::uint32_t sequence_length(const TcpSegment& segment) {
  return static_cast<std::uint32_t>(segment.payload.size()) + (segment.has(kTcpSyn) ? 1U : 0U) +
         (segment.has(kTcpFin) ? 1U : 0U);
}

}  // namespace

std::optional<TcpOutput> reset_for(const TcpSegment& segment) {
  if (segment.has(kTcpRst)) return std::nullopt;
  TcpOutput out;
  if (segment.has(kTcpAck)) {
    out.sequence = segment.acknowledgment;
    out.flags = kTcpRst;
  } else {
    out.acknowledgment = segment.sequence + sequence_length(segment);
    out.flags = kTcpRst | kTcpAck;
  }
  return out;
}

Connection::Connection(const Config& config, BufferBudget& budget, const TcpSegment& syn,
                       std::uint32_t initial, Instant now)
    : config_(config),
      iss_(initial),
      snd_una_(initial),
      snd_nxt_(initial),
      snd_max_(initial),
      last_heard_(now),
      pending_(budget),
      send_(budget) {
  irs_ = syn.sequence;
  rcv_nxt_ = syn.sequence + 1;
  rcv_adv_ = rcv_nxt_;
  accept_options(syn);
  snd_wnd_ = syn.window;
  snd_wl1_ = syn.sequence;
  snd_wl2_ = initial;
}

Connection::Connection(const Config& config, BufferBudget& budget, std::uint32_t initial, Instant now)
    : config_(config),
      state_(State::kSynSent),
      scaling_(true),
      iss_(initial),
      snd_una_(initial),
      snd_nxt_(initial),
      snd_max_(initial),
      last_heard_(now),
      pending_(budget),
      send_(budget) {}

void Connection::accept_options(const TcpSegment& segment) {
  // RFC 9293 3.7.1: without the option 536 (IPv4); a tiny value would make us send one header per byte.
  snd_mss_ = std::clamp<std::uint16_t>(segment.mss.value_or(536), 64, config_.mss);
  scaling_ = segment.window_scale.has_value();
  snd_scale_ = segment.window_scale.value_or(0);
}

void Connection::update_advertised() {
  const std::size_t room = pending_.size() >= pending_.target() ? 0 : pending_.target() - pending_.size();
  std::uint32_t window = static_cast<std::uint32_t>(room);
  if (!scaling_) window = std::min<std::uint32_t>(window, 65535);
  window &= ~((1U << (scaling_ ? kReceiveScale : 0)) - 1);
  if (after(rcv_nxt_ + window, rcv_adv_)) rcv_adv_ = rcv_nxt_ + window;  // never take back what was offered
}

TcpOutput Connection::base_segment(std::uint8_t flags) const {
  TcpOutput out;
  out.sequence = snd_nxt_;
  out.acknowledgment = rcv_nxt_;
  out.flags = flags;
  const std::uint32_t window = receive_window();
  out.window =
      static_cast<std::uint16_t>(std::min<std::uint32_t>(scaling_ ? window >> kReceiveScale : window, 65535));
  return out;
}

void Connection::send_ack(ConnectionIo& io) {
  update_advertised();
  TcpOutput out = base_segment(kTcpAck);
  out.sequence = snd_max_;
  ack_pending_ = false;
  last_window_sent_ = receive_window();
  io.send_segment(out);
}

void Connection::end_batch(ConnectionIo& io) {
  if (gathering_ && state_ == State::kOpen) {
    gathering_ = false;
    drain(io);
    if (state_ != State::kOpen) return;
  }
  if (ack_pending_ && state_ == State::kOpen) send_ack(io);
  close_if_done(io);
}

// SYN or SYN,ACK; its window is never scaled (RFC 7323 2.2).
void Connection::send_syn(ConnectionIo& io) {
  update_advertised();
  TcpOutput out = base_segment(state_ == State::kSynSent ? kTcpSyn : kTcpSyn | kTcpAck);
  if (state_ == State::kSynSent) out.acknowledgment = 0;
  out.sequence = iss_;
  out.window = static_cast<std::uint16_t>(std::min<std::uint32_t>(receive_window(), 65535));
  if (state_ == State::kSynSent) out.window = 65535;
  out.mss = config_.mss;
  if (scaling_) out.window_scale = kReceiveScale;
  snd_nxt_ = iss_ + 1;
  if (after(snd_nxt_, snd_max_)) snd_max_ = snd_nxt_;
  io.send_segment(out);
}

void Connection::start(Instant now, ConnectionIo& io) {
  send_syn(io);
  timing_ = true;
  timed_sequence_ = iss_;
  timed_at_ = now;
  retransmit_at_ = now + rto_;
}

void Connection::host_connected(Instant now, ConnectionIo& io) {
  if (state_ != State::kDialing) return;
  state_ = State::kSynReceived;
  send_syn(io);
  timing_ = true;
  timed_sequence_ = iss_;
  timed_at_ = now;
  retransmit_at_ = now + rto_;
}

void Connection::reset(ConnectionIo& io) {
  if (state_ == State::kClosed) return;
  TcpOutput out = base_segment(kTcpRst | kTcpAck);
  if (state_ == State::kDialing)
    out.sequence = 0;
  else
    out.sequence = snd_max_;
  out.window = 0;
  if (state_ != State::kSynSent) io.send_segment(out);
  state_ = State::kClosed;
  io.finished();
}

void Connection::forget(ConnectionIo& io) {
  if (state_ == State::kClosed) return;
  state_ = State::kClosed;
  io.finished();
}

void Connection::abort(ConnectionIo& io) {
  if (state_ == State::kClosed) return;
  state_ = State::kClosed;
  io.aborted();
  io.finished();
}

void Connection::close_if_done(ConnectionIo& io) {
  if (state_ != State::kOpen || !eof_delivered_ || !fin_acked_) return;
  if (ack_pending_) send_ack(io);
  state_ = State::kClosed;
  io.finished();
}

MutableBytes Connection::host_buffer() {
  if (state_ == State::kDialing || state_ == State::kClosed || host_eof_ || send_buffer_full()) return {};
  return send_.reserve();
}

void Connection::host_received(std::size_t count, Instant now, ConnectionIo& io) {
  send_.commit(count);
  transmit(now, io);
}

void Connection::host_eof(Instant now, ConnectionIo& io) {
  if (host_eof_) return;
  host_eof_ = true;
  transmit(now, io);
}

void Connection::send_data(std::uint32_t sequence, std::size_t count, ConnectionIo& io) {
  TcpOutput out = base_segment(kTcpAck);
  out.sequence = sequence;
  out.payload = send_.view(sequence - snd_una_, count);
  if (sequence + static_cast<std::uint32_t>(count) == data_end()) out.flags |= kTcpPsh;
  out.segment_size = snd_mss_;
  ack_pending_ = false;
  last_window_sent_ = receive_window();
  io.send_segment(out);
}

bool Connection::wants_output() const {
  if (state_ != State::kOpen) return false;
  const std::uint32_t window = std::min(snd_wnd_, cwnd_);
  if (before(snd_nxt_, data_end())) return in_flight() < window;
  return host_eof_ && !fin_sent_;
}

void Connection::transmit(Instant now, ConnectionIo& io) {
  if (state_ != State::kOpen) return;
  update_advertised();
  const std::uint32_t window = std::min(snd_wnd_, cwnd_);
  // The bound of the loop is the send buffer: each round advances snd_nxt_.
  while (before(snd_nxt_, data_end()) && io.can_send()) {
    const std::uint32_t flying = in_flight();
    if (flying >= window) break;
    const std::uint32_t left = data_end() - snd_nxt_;
    std::uint32_t count = std::min(left, window - flying);
    const std::uint32_t most =
        config_.max_segment > snd_mss_ ? config_.max_segment / snd_mss_ * snd_mss_ : snd_mss_;
    count = std::min(count, most);
    // Sender side of silly window avoidance (RFC 9293 3.8.6.2.1), without Nagle's wait.
    if (count < snd_mss_ && count < left && flying > 0) break;
    if (before(snd_nxt_, snd_max_))
      ++retransmits_;
    else if (!timing_) {
      timing_ = true;
      timed_sequence_ = snd_nxt_;
      timed_at_ = now;
    }
    send_data(snd_nxt_, count, io);
    snd_nxt_ += count;
    if (after(snd_nxt_, snd_max_)) snd_max_ = snd_nxt_;
  }
  if (host_eof_ && snd_nxt_ == data_end() && !fin_acked_ && (!fin_sent_ || before(snd_nxt_, snd_max_))) {
    TcpOutput out = base_segment(kTcpFin | kTcpAck);
    ack_pending_ = false;
    fin_sent_ = true;
    ++snd_nxt_;
    if (after(snd_nxt_, snd_max_)) snd_max_ = snd_nxt_;
    io.send_segment(out);
  }
  arm(now);
}

// A timer runs while something is unacknowledged, or while a closed window holds data back.
void Connection::arm(Instant now) {
  const bool outstanding = in_flight() > 0;
  const bool blocked = before(snd_nxt_, data_end()) && in_flight() == 0 && snd_wnd_ == 0;
  if (!outstanding && !blocked)
    retransmit_at_.reset();
  else if (!retransmit_at_)
    retransmit_at_ = now + rto_;
}

void Connection::retransmit_first(ConnectionIo& io) {
  ++retransmits_;
  timing_ = false;  // Karn's rule
  const std::uint32_t left = data_end() - snd_una_;
  if (left > 0) {
    send_data(snd_una_, std::min<std::uint32_t>(left, snd_mss_), io);
  } else if (fin_sent_) {
    TcpOutput out = base_segment(kTcpFin | kTcpAck);
    out.sequence = snd_una_;
    io.send_segment(out);
  }
}

// RFC 6298 section 2.
void Connection::measure(Instant now) {
  if (!timing_ || !after(snd_una_, timed_sequence_)) return;
  timing_ = false;
  const Duration sample = now - timed_at_;
  if (srtt_ == Duration{0}) {
    srtt_ = sample;
    rttvar_ = sample / 2;
  } else {
    const Duration error = sample > srtt_ ? sample - srtt_ : srtt_ - sample;
    rttvar_ = (rttvar_ * 3 + error) / 4;
    srtt_ = (srtt_ * 7 + sample) / 8;
  }
  rto_ = std::clamp<Duration>(srtt_ + 4 * rttvar_, kMinRto, kMaxRto);
}

std::optional<Instant> Connection::deadline() const {
  if (state_ == State::kDialing || state_ == State::kClosed) return std::nullopt;
  if (retransmit_at_) return retransmit_at_;
  if (state_ != State::kOpen) return std::nullopt;
  return last_heard_ + config_.keep_alive + kKeepAliveInterval * keep_alive_probes_;
}

void Connection::on_timer(Instant now, ConnectionIo& io) {
  const auto due = deadline();
  if (!due || now < *due) return;
  if (!retransmit_at_) {
    if (keep_alive_probes_ >= kKeepAliveProbes) return abort(io);
    ++keep_alive_probes_;
    TcpOutput probe = base_segment(kTcpAck);
    probe.sequence = snd_una_ - 1;
    return io.send_segment(probe);
  }
  retransmit_at_.reset();
  const bool opening = state_ == State::kSynReceived || state_ == State::kSynSent;
  const bool window_closed = !opening && snd_wnd_ == 0;
  // A guest that keeps its window shut but answers probes is alive, however long it takes (RFC 9293 3.8.6.1).
  if (++retries_ > (opening ? config_.max_syn_retries : config_.max_retries)) return abort(io);
  rto_ = std::min<Duration>(rto_ * 2, kMaxRto);
  timing_ = false;
  if (opening) {
    ++retransmits_;
    send_syn(io);
    retransmit_at_ = now + rto_;
    return;
  }
  if (window_closed && before(snd_una_, data_end())) {
    send_data(snd_una_, 1, io);
    if (!before(snd_una_, snd_max_)) snd_max_ = snd_una_ + 1;
    snd_nxt_ = snd_max_;
    retransmit_at_ = now + rto_;
    return;
  }
  // Everything in flight counts as lost: go back and open up again as acknowledgments arrive.
  cwnd_ = snd_mss_;
  recovering_ = false;
  duplicate_acks_ = 0;
  snd_nxt_ = snd_una_;
  if (fin_sent_ && snd_una_ != data_end()) fin_sent_ = false;
  if (fin_sent_) {
    retransmit_first(io);
    snd_nxt_ = snd_max_;
    retransmit_at_ = now + rto_;
    return;
  }
  transmit(now, io);
  if (!retransmit_at_) retransmit_at_ = now + rto_;
}

bool Connection::acceptable(const TcpSegment& segment) const {
  const std::uint32_t length = sequence_length(segment);
  const std::uint32_t window = receive_window();
  const auto inside = [&](std::uint32_t sequence) { return sequence - rcv_nxt_ < window; };
  if (length == 0) return window == 0 ? segment.sequence == rcv_nxt_ : inside(segment.sequence);
  if (window == 0) return false;
  return inside(segment.sequence) || inside(segment.sequence + length - 1);
}

void Connection::on_segment_syn_sent(const TcpSegment& segment, Instant now, ConnectionIo& io) {
  const bool acks_us = segment.has(kTcpAck) && segment.acknowledgment == iss_ + 1;
  if (segment.has(kTcpAck) && !acks_us) {
    if (const auto answer = reset_for(segment)) io.send_segment(*answer);
    return;
  }
  if (segment.has(kTcpRst)) {
    if (acks_us) abort(io);
    return;
  }
  if (!segment.has(kTcpSyn)) return;
  irs_ = segment.sequence;
  rcv_nxt_ = segment.sequence + 1;
  rcv_adv_ = rcv_nxt_;
  accept_options(segment);
  snd_wnd_ = segment.window;
  snd_wl1_ = segment.sequence;
  snd_wl2_ = segment.acknowledgment;
  retries_ = 0;
  if (!acks_us) {  // simultaneous open
    state_ = State::kSynReceived;
    send_syn(io);
    retransmit_at_ = now + rto_;
    return;
  }
  snd_una_ = snd_nxt_ = snd_max_ = iss_ + 1;
  measure(now);
  retransmit_at_.reset();
  state_ = State::kOpen;
  send_ack(io);
  io.opened();
  transmit(now, io);
}

// Returns false if nothing more of the segment may be used.
bool Connection::process_ack(const TcpSegment& segment, Instant now, ConnectionIo& io) {
  const std::uint32_t ack = segment.acknowledgment;
  if (after(ack, snd_max_)) {
    send_ack(io);
    return false;
  }
  const std::uint32_t window = static_cast<std::uint32_t>(segment.window) << (scaling_ ? snd_scale_ : 0);
  if (before(ack, snd_una_)) return true;
  const bool advanced = after(ack, snd_una_);
  const bool same_window = window == snd_wnd_;
  const bool was_closed = snd_wnd_ == 0;
  if (before(snd_wl1_, segment.sequence) || (snd_wl1_ == segment.sequence && !after(snd_wl2_, ack))) {
    snd_wnd_ = window;
    snd_wl1_ = segment.sequence;
    snd_wl2_ = ack;
  }
  if (advanced) {
    const std::uint32_t acked = ack - snd_una_;
    const std::uint32_t data = std::min<std::uint32_t>(acked, static_cast<std::uint32_t>(send_.size()));
    if (fin_sent_ && acked > data) fin_acked_ = true;
    send_.consume(data);
    snd_una_ = ack;
    if (before(snd_nxt_, snd_una_)) snd_nxt_ = snd_una_;
    measure(now);
    retries_ = 0;
    duplicate_acks_ = 0;
    retransmit_at_.reset();
    if (cwnd_ != UINT32_MAX)
      cwnd_ = cwnd_ > UINT32_MAX / 2 ? UINT32_MAX : cwnd_ + std::max<std::uint32_t>(acked, snd_mss_);
    if (recovering_) {
      if (before(ack, recover_))
        retransmit_first(io);  // partial acknowledgment (RFC 6582)
      else
        recovering_ = false;
    }
  } else if (was_closed && in_flight() > 0) {
    // An answered window probe: the guest is alive. Once its window opens, begin again at the byte probed
    // with.
    retries_ = 0;
    if (snd_wnd_ > 0) {
      snd_nxt_ = snd_una_;
      if (fin_sent_ && snd_una_ != data_end()) fin_sent_ = false;
      retransmit_at_.reset();
      rto_ = std::clamp<Duration>(srtt_ + 4 * rttvar_, kMinRto, kMaxRto);
    }
  } else if (in_flight() > 0 && segment.payload.empty() && same_window && !segment.has(kTcpFin)) {
    if (++duplicate_acks_ == kDuplicateAcks && !recovering_) {
      recovering_ = true;
      recover_ = snd_max_;
      cwnd_ = std::max<std::uint32_t>(in_flight() / 2, 2U * snd_mss_);
      retransmit_first(io);
    }
  }
  return true;
}

void Connection::process_payload(const TcpSegment& segment, ConnectionIo& io) {
  const bool has_content = !segment.payload.empty() || segment.has(kTcpFin);
  if (!has_content) return;
  const std::uint32_t skip = rcv_nxt_ - segment.sequence;      // already received at the front
  if (after(segment.sequence, rcv_nxt_)) return send_ack(io);  // a gap: ask again
  ack_pending_ = true;
  if (guest_fin_) return;
  ByteView fresh = segment.payload;
  bool fin = segment.has(kTcpFin);
  if (skip > fresh.size()) return;
  fresh = fresh.subspan(skip);
  if (fresh.size() > receive_window()) {
    fresh = fresh.first(receive_window());
    fin = false;
  }
  std::size_t taken = 0;
  if (pending_.empty() && !fresh.empty()) {
    gathering_ = fresh.size() < kGatherBelow;
    if (!gathering_) taken = io.deliver(fresh);
    if (state_ != State::kOpen) return;  // the host side failed
  }
  if (taken < fresh.size()) taken += pending_.append(fresh.subspan(taken));
  if (taken < fresh.size() && gathering_) {  // no memory to gather in
    gathering_ = false;
    drain(io);
    if (state_ != State::kOpen) return;
    if (pending_.empty()) taken += io.deliver(fresh.subspan(taken));
    if (state_ != State::kOpen) return;
  }
  rcv_nxt_ += static_cast<std::uint32_t>(taken);
  if (taken < fresh.size()) return;
  if (fin) {
    guest_fin_ = true;
    ++rcv_nxt_;
    if (before(rcv_adv_, rcv_nxt_)) rcv_adv_ = rcv_nxt_;
    if (pending_.empty() && !eof_delivered_) {
      eof_delivered_ = true;
      io.deliver_eof();
    }
  }
}

void Connection::drain(ConnectionIo& io) {
  // deliver() may end in host_writable(): what it has just taken is still in the queue then.
  if (draining_) return;
  while (!pending_.empty()) {
    const ByteView piece = pending_.view(0, pending_.size())[0];
    draining_ = true;
    const std::size_t taken = io.deliver(piece);
    draining_ = false;
    if (state_ != State::kOpen) return;
    if (taken > 0) pending_.consume(taken);
    if (taken < piece.size()) return;
  }
  if (guest_fin_ && !eof_delivered_) {
    eof_delivered_ = true;
    io.deliver_eof();
  }
}

void Connection::host_writable(Instant now, ConnectionIo& io) {
  if (state_ != State::kOpen) return;
  (void)now;
  drain(io);
  if (state_ != State::kOpen) return;
  // Tell the guest once the window it knows of is small and has at least doubled or grown by a segment.
  update_advertised();
  const std::uint32_t window = receive_window();
  if (!guest_fin_ && last_window_sent_ < pending_.target() / 2 &&
      window >= last_window_sent_ + std::max<std::uint32_t>(config_.mss, last_window_sent_))
    send_ack(io);
  close_if_done(io);
}

void Connection::on_segment(const TcpSegment& segment, Instant now, ConnectionIo& io) {
  if (state_ == State::kClosed) return;
  last_heard_ = now;
  keep_alive_probes_ = 0;
  if (state_ == State::kDialing) {
    // Only the guest's change of mind counts; repeated SYNs wait for the host.
    const bool gives_up = segment.has(kTcpRst) && (segment.sequence == rcv_nxt_ || segment.sequence == irs_);
    if (gives_up) abort(io);
    return;
  }
  if (state_ == State::kSynSent) return on_segment_syn_sent(segment, now, io);
  if (state_ == State::kSynReceived && segment.has(kTcpSyn) && segment.sequence == irs_) {
    if (!segment.has(kTcpAck)) return send_syn(io);  // our answer was lost
    // Simultaneous open: the guest's SYN,ACK repeats its SYN (RFC 9293 figure 8).
    if (segment.acknowledgment != iss_ + 1) return;
  } else if (!acceptable(segment)) {
    if (segment.has(kTcpRst)) return;
    const bool probe = receive_window() == 0 && segment.sequence == rcv_nxt_ && segment.has(kTcpAck) &&
                       state_ == State::kOpen;
    if (probe && !process_ack(segment, now, io)) return;
    if (state_ == State::kSynReceived) return send_syn(io);
    send_ack(io);
    if (probe) {
      transmit(now, io);
      close_if_done(io);
    }
    return;
  } else if (segment.has(kTcpRst)) {
    if (segment.sequence != rcv_nxt_) return send_ack(io);
    if (gathering_) drain(io);  // it came before the reset
    if (state_ == State::kOpen || state_ == State::kSynReceived) abort(io);
    return;
  } else if (segment.has(kTcpSyn)) {
    return send_ack(io);
  }
  if (!segment.has(kTcpAck)) return;
  if (state_ == State::kSynReceived) {
    if (segment.acknowledgment != iss_ + 1) {
      if (const auto answer = reset_for(segment)) io.send_segment(*answer);
      return;
    }
    snd_una_ = snd_nxt_ = snd_max_ = iss_ + 1;
    measure(now);
    retries_ = 0;
    retransmit_at_.reset();
    snd_wnd_ = static_cast<std::uint32_t>(segment.window) << (scaling_ ? snd_scale_ : 0);
    snd_wl1_ = segment.sequence;
    snd_wl2_ = segment.acknowledgment;
    state_ = State::kOpen;
    last_window_sent_ = receive_window();
    io.opened();
    if (state_ != State::kOpen) return;
  } else if (!process_ack(segment, now, io)) {
    return;
  }
  if (!segment.has(kTcpSyn)) process_payload(segment, io);
  if (state_ != State::kOpen) return;
  transmit(now, io);
  close_if_done(io);
}

}  // namespace msb::net
