// SPDX-License-Identifier: Apache-2.0
// Blk: a virtio block device (virtio 1.2, section 5.2) over a BlockBackend.
//
// Theory of operation. Each queue has a loop (thread) of its own, where requests are done one after the
// other: kick, pop, preadv/pwritev straight into guest RAM, status, interrupt, without another hop. Nothing
// of this runs on a vCPU thread, and a slow disk delays only its own queue. A request that the host cannot
// take now (disk full, rate limit) is put back into the queue and tried again later; so nothing is held
// outside the ring and a reset or pause finds nothing in flight. A full disk never becomes an error in the
// guest: the queue stands still until there is room, and the owner is told.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "devices/virtio/block_backend.h"
#include "devices/virtio/device.h"

namespace msb::devices {

enum class IoKind : std::uint8_t { kRead, kWrite, kFlush, kErase };

// Where a rate limit hangs in. Called from the queues' threads, possibly several at once.
class IoGovernor {
 public:
  virtual ~IoGovernor() = default;
  // Zero: go ahead, and it is charged. Otherwise: ask again after that long, nothing is charged.
  [[nodiscard]] virtual Duration admit(IoKind kind, std::uint64_t bytes, Instant now) = 0;
};

class Blk final : public Device {
 public:
  struct Options {
    std::string id{};                // what GET_ID answers; cut to 20 bytes
    std::uint16_t queue_size = 256;  // a power of two, at least 4
    IoGovernor* governor = nullptr;  // borrowed; null: no limit
    Duration retry_full_disk = std::chrono::seconds(1);
    // From a queue's thread: true when the host's disk became full, false when writes go on.
    std::function<void(bool full)> on_disk_full{};
  };
  struct Counters {
    std::atomic<std::uint64_t> reads{0}, read_bytes{0};
    std::atomic<std::uint64_t> writes{0}, written_bytes{0};
    std::atomic<std::uint64_t> flushes{0}, errors{0}, delayed{0};
  };

  // One queue per entry of `queue_loops` (1 to 64, borrowed; may repeat). `loop` is the device's own,
  // borrowed.
  Blk(EventLoop& loop, std::vector<EventLoop*> queue_loops, std::unique_ptr<BlockBackend> backend,
      Options options);

  DeviceType type() const override { return DeviceType::kBlock; }
  std::uint64_t features() const override;
  std::span<const std::uint16_t> queue_sizes() const override { return queue_sizes_; }
  EventLoop& loop() override { return loop_; }
  EventLoop& queue_loop(std::uint16_t queue) override { return *queues_[queue].loop; }
  void activate(std::shared_ptr<DriverSession>) override {}
  void reset() override {}
  void process(DriverSession& session, std::uint16_t queue) override;

  [[nodiscard]] const Counters& counters() const { return counters_; }

 private:
  struct QueueState {  // on the queue's loop
    EventLoop* loop = nullptr;
    Chain chain;
    std::vector<vmm::HostRange> data;
    std::shared_ptr<DriverSession> waiting_for;  // a retry timer runs for this session
    bool disk_full = false;
  };
  struct Outcome {
    std::uint8_t status = 0;
    std::uint32_t written = 0;  // into the guest's buffer, without the status byte
    Duration retry{};           // positive: not done, try again after that long
  };
  [[nodiscard]] Outcome handle(DriverSession& session, QueueState& state);
  [[nodiscard]] Outcome transfer(DriverSession& session, QueueState& state, IoKind kind,
                                 std::uint64_t sector);
  [[nodiscard]] Outcome erase(QueueState& state, std::uint32_t type);
  [[nodiscard]] Outcome identify(QueueState& state);
  [[nodiscard]] Outcome outcome_of(QueueState& state, const Status& status, std::uint32_t written);
  [[nodiscard]] Duration admit(QueueState& state, IoKind kind, std::uint64_t bytes);
  [[nodiscard]] bool in_range(std::uint64_t sector, std::uint64_t sectors) const;
  void wait_and_retry(DriverSession& session, std::uint16_t queue, Duration delay);

  EventLoop& loop_;
  std::unique_ptr<BlockBackend> backend_;
  Options options_;
  std::vector<QueueState> queues_;
  std::vector<std::uint16_t> queue_sizes_;
  Counters counters_;
};

}  // namespace msb::devices
