// SPDX-License-Identifier: Apache-2.0
// A virtio-mmio driver without manners (virtio 1.2, sections 2.7 and 4.2): it can do things right, and then
// not.
#pragma once

#include "hardware.h"

namespace attack {

enum Register : std::uint64_t {
  kMagic = 0x00,
  kDeviceId = 0x08,
  kDeviceFeatures = 0x10,
  kDeviceFeaturesSelect = 0x14,
  kDriverFeatures = 0x20,
  kDriverFeaturesSelect = 0x24,
  kQueueSelect = 0x30,
  kQueueMax = 0x34,
  kQueueSize = 0x38,
  kQueueReady = 0x44,
  kQueueNotify = 0x50,
  kInterruptStatus = 0x60,
  kInterruptAck = 0x64,
  kStatus = 0x70,
  kQueueDescriptors = 0x80,
  kQueueAvailable = 0x90,
  kQueueUsed = 0xa0,
  kConfig = 0x100,
};
enum StatusBit : std::uint32_t {
  kAcknowledge = 1,
  kDriver = 2,
  kDriverOk = 4,
  kFeaturesOk = 8,
  kNeedsReset = 64,
  kFailed = 128,
};
enum DescriptorFlag : std::uint16_t { kNext = 1, kWrite = 2, kIndirect = 4 };
enum DeviceId : std::uint32_t { kNet = 1, kBlock = 2, kConsole = 3, kEntropy = 4, kBalloon = 5, kVsock = 19 };

struct Descriptor {
  std::uint64_t address;
  std::uint32_t length;
  std::uint16_t flags;
  std::uint16_t next;
};

class Device {
 public:
  static constexpr unsigned kQueues = 4;
  static constexpr std::uint16_t kSize = 16;

  explicit Device(unsigned number) : number_(number), base_(kDevices + number * kDeviceStride) {}
  [[nodiscard]] bool present() const { return get(kMagic) == 0x74726976 && get(kDeviceId) != 0; }
  [[nodiscard]] std::uint32_t id() const { return get(kDeviceId); }
  [[nodiscard]] std::uint64_t base() const { return base_; }
  [[nodiscard]] std::uint32_t get(std::uint64_t offset) const { return load<std::uint32_t>(base_ + offset); }
  void set(std::uint64_t offset, std::uint32_t value) const { store(base_ + offset, value); }
  void set64(std::uint64_t offset, std::uint64_t value) const {
    set(offset, static_cast<std::uint32_t>(value));
    set(offset + 4, static_cast<std::uint32_t>(value >> 32));
  }

  // All queues at kSize and all that is offered, up to DRIVER_OK. Queue areas are this device's own.
  void start();
  void start_if_broken() {
    if ((get(kStatus) & (kNeedsReset | kDriverOk)) != kDriverOk) start();
  }
  // The first half of start(): up to FEATURES_OK.
  void negotiate();
  void reset() { set(kStatus, 0); }
  [[nodiscard]] unsigned queues() const;

  // Rings, by plain address.
  [[nodiscard]] Descriptor* table(unsigned queue) const { return reinterpret_cast<Descriptor*>(area(queue)); }
  [[nodiscard]] volatile std::uint16_t* available(unsigned queue) const {
    return reinterpret_cast<volatile std::uint16_t*>(area(queue) + 0x1000);
  }
  [[nodiscard]] volatile std::uint16_t* used(unsigned queue) const {
    return reinterpret_cast<volatile std::uint16_t*>(area(queue) + 0x2000);
  }
  // Makes `head` available and, if asked, kicks.
  void offer(unsigned queue, std::uint16_t head, bool kick = true);
  void kick(unsigned queue) const { set(kQueueNotify, queue); }
  // Whether the device has used something since; waits a bounded while.
  bool wait_used(unsigned queue);
  // One chain from descriptor 0 on, offered, kicked and waited for.
  bool send(unsigned queue, const Descriptor* chain, std::uint16_t count);
  // A buffer of this device's own, `number` below 16, 64 KiB each.
  [[nodiscard]] std::uint64_t buffer(unsigned number) const {
    return 0x2000000 + number_ * 0x200000 + 0x100000 + number * 0x10000;
  }

 private:
  [[nodiscard]] std::uint64_t area(unsigned queue) const {
    return 0x2000000 + number_ * 0x200000 + queue * 0x4000;
  }
  unsigned number_;
  std::uint64_t base_;
  std::uint16_t seen_[kQueues] = {};
};

// Calls `attack` with each device that is there, reset before.
template <typename Attack>
void each_device(Attack attack) {
  for (unsigned number = 0; number < kMaxDevices; ++number) {
    Device device(number);
    if (!device.present()) continue;
    device.reset();
    attack(device);
    device.reset();
  }
}

}  // namespace attack
