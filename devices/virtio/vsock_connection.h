// SPDX-License-Identifier: Apache-2.0
// The packets of a virtio socket device (virtio 1.2, 5.10.6) and the bookkeeping of one connection.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>

#include "base/bytes.h"
#include "base/event_loop.h"
#include "base/unique_fd.h"
#include "base/wire.h"

namespace msb::devices {

// struct virtio_vsock_hdr
struct VsockHeader {
  Le64 source_cid;
  Le64 destination_cid;
  Le32 source_port;
  Le32 destination_port;
  Le32 length;
  Le16 type;
  Le16 op;
  Le32 flags;
  Le32 buf_alloc;
  Le32 fwd_cnt;
};
static_assert(sizeof(VsockHeader) == 44);

enum class VsockOp : std::uint16_t {
  kRequest = 1,
  kResponse = 2,
  kReset = 3,
  kShutdown = 4,
  kData = 5,
  kCreditUpdate = 6,
  kCreditRequest = 7,
};
inline constexpr std::uint16_t kVsockStream = 1;
inline constexpr std::uint32_t kVsockShutReceive = 1;  // the sender of SHUTDOWN will receive no more
inline constexpr std::uint32_t kVsockShutSend = 2;     // ... will send no more
inline constexpr std::uint32_t kVsockShutBoth = kVsockShutReceive | kVsockShutSend;
inline constexpr std::uint64_t kVsockHostCid = 2;
inline constexpr std::uint32_t kVsockMaxPayload = 64 * 1024;

// One stream between a host socket and a guest port. Counters are modulo 2^32, as on the wire (5.10.6.3).
struct VsockConnection {
  enum class Stage : std::uint8_t {
    kHandshake,   // host side connected, its CONNECT line is not complete
    kRequested,   // host-initiated: REQUEST to the guest is queued or sent
    kConnecting,  // guest-initiated: waiting for the host's socket
    kOpen,
    kLingering,  // the guest has forgotten it; bytes it sent still go to the host socket
  };

  std::uint64_t id = 0;
  Stage stage = Stage::kHandshake;
  UniqueFd fd;
  EventLoop::IoToken token;
  std::uint32_t watched = 0;  // epoll events of `token`
  std::uint32_t host_port = 0;
  std::uint32_t guest_port = 0;
  std::string line;  // of the handshake

  // Towards the guest.
  std::uint32_t peer_buf_alloc = 0;
  std::uint32_t peer_fwd_cnt = 0;
  std::uint32_t sent = 0;
  std::uint16_t batch = 1;  // receive buffers worth taking for one read
  // From the guest.
  std::uint32_t received = 0;
  std::uint32_t forwarded = 0;
  std::uint32_t advertised = 0;  // `forwarded` as the guest last heard it
  Bytes backlog;                 // received - forwarded bytes that the host socket would not take
  std::size_t backlog_start = 0;

  // Packets owed to the guest.
  bool owes_request = false;
  bool owes_response = false;
  bool owes_credit = false;
  std::uint32_t shutdown_wanted = 0;
  std::uint32_t shutdown_sent = 0;
  // What the guest shut down, in its own words.
  std::uint32_t guest_shutdown = 0;
  bool host_shut_write = false;  // shutdown(SHUT_WR) done on `fd`

  bool queued = false;  // stands in the ready list
  EventLoop::TimerToken close_timer = 0;

  [[nodiscard]] std::uint32_t credit() const {
    const std::uint32_t in_flight = sent - peer_fwd_cnt;
    return in_flight < peer_buf_alloc ? peer_buf_alloc - in_flight : 0;
  }
  // What the guest may still send of the `window` bytes that we advertise.
  [[nodiscard]] std::uint32_t room(std::uint32_t window) const {
    const std::uint32_t held = received - forwarded;
    return held < window ? window - held : 0;
  }
  [[nodiscard]] std::size_t backlog_bytes() const { return backlog.size() - backlog_start; }
  [[nodiscard]] bool owes_control() const {
    return owes_request || owes_response || owes_credit || (shutdown_wanted & ~shutdown_sent) != 0;
  }
  [[nodiscard]] bool host_ended() const { return (shutdown_wanted & kVsockShutSend) != 0; }
  [[nodiscard]] bool may_read_host() const {
    return stage == Stage::kOpen && !host_ended() && (guest_shutdown & kVsockShutReceive) == 0;
  }
};

}  // namespace msb::devices
