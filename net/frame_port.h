// SPDX-License-Identifier: Apache-2.0
// Ethernet frames over a stream socket in the framing of QEMU's stream netdev: a 32-bit big-endian length,
// then the frame. With the extension that both ends are told of at their start, every frame is preceded,
// inside that length, by a virtio-net header of 12 bytes (virtio 1.2, 5.1.6), so that large segments and
// unfinished checksums cross it.
//
// Theory of operation. Reading: one buffer; every whole frame in it is handed out in place, then on_batch_end
// runs. Writing: small frames are collected and go out together at flush(); a large one goes out at once
// behind them, straight from where its bytes lie. What the socket does not take is kept (never half a frame
// is lost) and can_send() is false until it is gone; meanwhile small frames are still queued up to a bound
// and then dropped. The other end is the machine role, not the guest: a length it must not send ends the
// port.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>

#include "base/bytes.h"
#include "base/event_loop.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "base/wire.h"

namespace msb::net {

struct VnetHeader {
  static constexpr std::uint8_t kNeedsChecksum = 1;
  static constexpr std::uint8_t kDataValid = 2;
  static constexpr std::uint8_t kGsoNone = 0;
  static constexpr std::uint8_t kGsoTcpv4 = 1;
  static constexpr std::uint8_t kGsoUdp = 3;
  static constexpr std::uint8_t kGsoTcpv6 = 4;
  static constexpr std::uint8_t kGsoUdpL4 = 5;
  static constexpr std::uint8_t kGsoEcn = 0x80;
  std::uint8_t flags = 0;
  std::uint8_t gso_type = kGsoNone;
  Le16 header_length;
  Le16 gso_size;
  Le16 checksum_start;
  Le16 checksum_offset;
  Le16 buffers = 1;
};
static_assert(sizeof(VnetHeader) == 12 && WireStruct<VnetHeader>);

struct FramePortCounters {
  std::uint64_t frames_in = 0;
  std::uint64_t bytes_in = 0;
  std::uint64_t frames_out = 0;
  std::uint64_t bytes_out = 0;
  std::uint64_t dropped_out = 0;
};

// The guest's end of the link as the services see it.
class FramePort {
 public:
  using FrameHandler = std::function<void(ByteView frame, const VnetHeader& header)>;

  struct Handlers {
    FrameHandler on_frame;
    std::function<void()> on_batch_end;
    std::function<void()> on_writable;          // can_send() is true again
    std::function<void(Status why)> on_closed;  // end of stream (success) or an error; once
    std::function<void(ByteView)> tap_in;       // every frame as it passes, for captures; may be empty
    std::function<void(std::span<const ByteView>)> tap_out;
  };

  virtual ~FramePort() = default;
  [[nodiscard]] virtual Status start(Handlers handlers) = 0;
  [[nodiscard]] virtual bool vnet_hdr() const = 0;
  [[nodiscard]] virtual bool can_send() const = 0;
  // Sends one frame made of `parts` (at most 6). False if it was dropped because the queue is full.
  virtual bool send(std::span<const ByteView> parts, const VnetHeader& header) = 0;
  // Writes out what was collected.
  virtual void flush() = 0;
  // Stops and resumes taking frames from the guest.
  virtual void set_reading(bool on) = 0;
  [[nodiscard]] virtual const FramePortCounters& counters() const = 0;
};

class SocketFramePort final : public FramePort {
 public:
  static constexpr std::size_t kMaxFrame = 65535 + 14 + 40;  // a full IPv6 packet behind its Ethernet header

  // `socket`: a connected stream socket. Handlers run on the loop's thread.
  [[nodiscard]] static Result<std::unique_ptr<SocketFramePort>> create(EventLoop& loop, UniqueFd socket,
                                                                       bool vnet_hdr);
  ~SocketFramePort() override;
  [[nodiscard]] Status start(Handlers handlers) override;
  [[nodiscard]] bool vnet_hdr() const override { return vnet_hdr_; }
  [[nodiscard]] bool can_send() const override { return backlog_.empty(); }
  bool send(std::span<const ByteView> parts, const VnetHeader& header) override;
  void flush() override;
  void set_reading(bool on) override;
  [[nodiscard]] const FramePortCounters& counters() const override { return counters_; }

 private:
  SocketFramePort(EventLoop& loop, UniqueFd socket, bool vnet_hdr);
  void on_event(std::uint32_t events);
  void read_frames();
  void dispatch();
  void write_backlog();
  void write_out(std::span<const ByteView> parts);
  void update_interest();
  void close(Status why);

  EventLoop& loop_;
  UniqueFd socket_;
  bool vnet_hdr_;
  bool reading_ = true;
  bool closed_ = false;
  Handlers handlers_;
  EventLoop::IoToken token_;
  std::uint32_t interest_ = 0;
  std::unique_ptr<std::uint8_t[]> in_;
  std::size_t in_begin_ = 0;
  std::size_t in_end_ = 0;
  Bytes collected_;
  Bytes backlog_;
  std::size_t backlog_done_ = 0;
  FramePortCounters counters_;
};

}  // namespace msb::net
