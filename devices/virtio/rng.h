// SPDX-License-Identifier: Apache-2.0
// Rng: a virtio entropy device (virtio 1.2, section 5.4).
//
// One request is filled with at most kMaxBytes however large its buffer claims to be: overlapping descriptors
// inflate a length for free. Short answers are legal.
#pragma once

#include <array>
#include <atomic>
#include <functional>
#include <memory>

#include "devices/virtio/device.h"

namespace msb::devices {

class Rng final : public Device {
 public:
  static constexpr std::size_t kMaxBytes = 64 * 1024;
  // Fills all of `out`, or fails. On the device's loop; must not block.
  using Source = std::function<bool(MutableBytes out)>;

  // `loop` is borrowed.
  Rng(EventLoop& loop, Source source) : loop_(loop), source_(std::move(source)) {}
  // The host kernel's random number generator.
  [[nodiscard]] static Source system_source();

  DeviceType type() const override { return DeviceType::kEntropy; }
  std::uint64_t features() const override { return 0; }
  std::span<const std::uint16_t> queue_sizes() const override { return kQueueSizes; }
  EventLoop& loop() override { return loop_; }
  void activate(std::shared_ptr<DriverSession>) override {}
  void reset() override {}
  void process(DriverSession& session, std::uint16_t queue) override;

 private:
  static constexpr std::array<std::uint16_t, 1> kQueueSizes{64};
  EventLoop& loop_;
  Source source_;
  Chain chain_;
};

}  // namespace msb::devices
