// SPDX-License-Identifier: Apache-2.0
// Net: a virtio network device (virtio 1.2, section 5.1) over a stream socket of frames.
//
// Theory of operation. The peer is a process at the other end of a stream socket. Each frame is preceded by
// its length, 32 bits big-endian, as QEMU's stream netdev does. When both sides were told so, a 12-byte
// virtio-net header comes first inside that length; only then are checksum and segmentation offloads offered.
//
// Guest to host: a batch of frames goes out in one sendmsg straight from guest memory. The frame that the
// socket takes only in part is kept (one frame at most) and completed first; while it is, the transmit queue
// is not read, so the guest feels the peer's pace. Host to guest: the stream is read into a buffer of fixed
// size, and frames are copied into as many guest buffers as they need (mergeable buffers). No buffers: the
// stream is not read, so the peer feels the guest's. The position in the stream survives a reset of the
// device.
//
// A peer that breaks the framing or goes away takes the link down; the guest sees that in its status.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "devices/virtio/device.h"

namespace msb::devices {

class Net final : public Device {
 public:
  enum class Framing : std::uint8_t { kPlain, kVirtioHeader };
  struct Options {
    std::array<std::uint8_t, 6> mac{};
    std::uint16_t mtu = 1500;  // 68 to 65520
    Framing framing = Framing::kPlain;
  };
  struct Counters {
    std::atomic<std::uint64_t> to_guest_frames{0}, to_guest_bytes{0}, to_guest_dropped{0};
    std::atomic<std::uint64_t> from_guest_frames{0}, from_guest_bytes{0}, from_guest_dropped{0};
  };

  // `loop` is borrowed. `frames`: a connected stream socket.
  Net(EventLoop& loop, UniqueFd frames, Options options);
  ~Net() override;

  DeviceType type() const override { return DeviceType::kNet; }
  std::uint64_t features() const override;
  std::span<const std::uint16_t> queue_sizes() const override { return kQueueSizes; }
  bool accepts(std::uint64_t driver_features) const override;
  EventLoop& loop() override { return loop_; }
  void activate(std::shared_ptr<DriverSession> session) override;
  void reset() override;
  void process(DriverSession& session, std::uint16_t queue) override;
  void pause() override;
  void resume() override;

  // Any thread.
  [[nodiscard]] const Counters& counters() const { return counters_; }

 private:
  static constexpr std::array<std::uint16_t, 2> kQueueSizes{256, 256};
  enum QueueIndex : std::uint16_t { kReceive = 0, kTransmit = 1 };
  static constexpr std::size_t kBatch = 32;

  void process_transmit(DriverSession& session);
  [[nodiscard]] std::size_t gather(DriverSession& session);
  void send_batch(DriverSession& session, std::size_t frames);
  void keep_rest(const Chain& chain, Be32 length, std::uint64_t sent);
  void flush_kept();

  using Header = std::array<std::uint8_t, 12>;
  enum class Delivered : std::uint8_t { kYes, kDropped, kNoBuffers, kBroken };
  void process_receive(DriverSession& session);
  [[nodiscard]] bool fill();
  [[nodiscard]] Delivered deliver(DriverSession& session, MutableBytes frame);
  [[nodiscard]] bool prepare(DriverSession& session, MutableBytes& frame, Header& out);

  void on_socket(std::uint32_t events);
  void link_down();
  void update_watch();

  EventLoop& loop_;
  UniqueFd frames_;
  const Options options_;
  const std::size_t prefix_;  // bytes of virtio header inside a frame on the stream
  Counters counters_;
  std::shared_ptr<DriverSession> session_;
  EventLoop::IoToken token_;
  std::uint32_t watched_ = 0;
  bool paused_ = false;
  bool blocked_ = false;  // the socket takes nothing now
  bool starved_ = false;  // frames wait for guest buffers

  std::array<Chain, kBatch> chains_;
  std::array<Be32, kBatch> lengths_;
  std::vector<vmm::HostRange> ranges_;
  Bytes kept_;  // rest of a frame that the socket took in part
  std::size_t kept_start_ = 0;

  Bytes stream_;  // allocated once, on activation
  std::size_t begin_ = 0;
  std::size_t end_ = 0;
  std::vector<Chain> merge_;
};

}  // namespace msb::devices
