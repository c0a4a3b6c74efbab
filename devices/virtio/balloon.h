// SPDX-License-Identifier: Apache-2.0
// Balloon: a virtio memory balloon (virtio 1.2, section 5.5): takes memory from the guest on request, gives
// it back, and returns pages that the guest reports free to the host at once.
//
// Pages come as 4 KiB frame numbers, in any order; each is checked, neighbours are merged, and the range is
// given back to the host. Deflating needs nothing: a page comes back, as zeros, at the guest's first touch.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "devices/virtio/device.h"

namespace msb::devices {

class Balloon final : public Device {
 public:
  // 5.5.6.4: what the guest tells of its memory; bytes, or counts. Missing values are 0.
  struct Stats {
    std::uint64_t swap_in = 0, swap_out = 0, major_faults = 0, minor_faults = 0;
    std::uint64_t free = 0, total = 0, available = 0, caches = 0;
  };
  struct Counters {
    std::atomic<std::uint64_t> inflated_pages{0}, deflated_pages{0}, reported_bytes{0}, refused{0};
  };
  using OnStats = std::function<void(const Stats&)>;  // on the loop

  // `loop` is borrowed.
  explicit Balloon(EventLoop& loop);

  DeviceType type() const override { return DeviceType::kBalloon; }
  std::uint64_t features() const override;
  std::span<const std::uint16_t> queue_sizes() const override { return kQueueSizes; }
  ConfigWindow writable_config() const override;
  EventLoop& loop() override { return loop_; }
  void activate(std::shared_ptr<DriverSession> session) override;
  void reset() override;
  void process(DriverSession& session, std::uint16_t queue) override;
  void pause() override;
  void config_written(std::uint32_t offset, ByteView bytes) override;

  // On the loop: how many 4 KiB pages the guest should give up. It may take a while, or never get there.
  void set_target(std::uint32_t pages);
  // Any thread: how many pages the guest says it has given up.
  [[nodiscard]] std::uint32_t actual() const { return actual_.load(std::memory_order_relaxed); }
  // On the loop: asks the guest for its statistics; `done` is called when they come (not at all if the guest
  // does not answer, or a later request replaced this one). False when the guest has not offered any.
  [[nodiscard]] bool request_stats(OnStats done);

  [[nodiscard]] const Counters& counters() const { return counters_; }

 private:
  static constexpr std::array<std::uint16_t, 4> kQueueSizes{128, 128, 16, 32};
  enum class Role : std::uint8_t { kInflate, kDeflate, kStats, kReporting, kNone };
  // The driver numbers only the queues of the features it took.
  [[nodiscard]] static Role role_of(const DriverSession& session, std::uint16_t queue);
  [[nodiscard]] bool handle(DriverSession& session, Role role);
  void inflate(DriverSession& session);
  void report(DriverSession& session);
  void process_stats(DriverSession& session, std::uint16_t queue);

  EventLoop& loop_;
  std::shared_ptr<DriverSession> session_;
  std::atomic<std::uint32_t> actual_{0};
  Counters counters_;
  Chain chain_;
  std::vector<std::uint32_t> frames_;
  bool holds_stats_ = false;  // the guest's statistics buffer waits here for a request
  std::uint16_t stats_head_ = 0;
  std::uint16_t stats_queue_ = 0;
  OnStats on_stats_;
};

}  // namespace msb::devices
