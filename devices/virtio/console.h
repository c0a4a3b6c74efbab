// SPDX-License-Identifier: Apache-2.0
// Console: a virtio console with one port (virtio 1.2, section 5.3): the kernel's log and its last words.
//
// Output goes to a ConsoleSink, which bounds what is kept. The emergency write register (5.3.5) works before
// the driver has queues, one byte at a time. Input waits in a bounded buffer until the guest takes it.
#pragma once

#include <array>
#include <atomic>
#include <memory>

#include "devices/virtio/device.h"

namespace msb::devices {

class ConsoleSink {
 public:
  virtual ~ConsoleSink() = default;
  // On the device's loop. Must not block and must bound what it keeps: the guest writes without end.
  virtual void write(ByteView bytes) = 0;
};

class Console final : public Device {
 public:
  static constexpr std::size_t kMaxInput = 64 * 1024;
  // Both borrowed.
  Console(EventLoop& loop, ConsoleSink& sink);

  DeviceType type() const override { return DeviceType::kConsole; }
  std::uint64_t features() const override;
  std::span<const std::uint16_t> queue_sizes() const override { return kQueueSizes; }
  ConfigWindow writable_config() const override;
  EventLoop& loop() override { return loop_; }
  void activate(std::shared_ptr<DriverSession> session) override { session_ = std::move(session); }
  void reset() override { session_ = nullptr; }
  void process(DriverSession& session, std::uint16_t queue) override;
  void config_written(std::uint32_t offset, ByteView bytes) override;

  // On the loop: what the guest will read from its console. Returns how much fitted.
  std::size_t send_input(ByteView bytes);

 private:
  static constexpr std::array<std::uint16_t, 2> kQueueSizes{64, 64};
  enum QueueIndex : std::uint16_t { kReceive = 0, kTransmit = 1 };
  void process_output(DriverSession& session);
  void process_input(DriverSession& session);

  EventLoop& loop_;
  ConsoleSink& sink_;
  std::shared_ptr<DriverSession> session_;
  Chain chain_;
  Bytes input_;
};

}  // namespace msb::devices
