// SPDX-License-Identifier: Apache-2.0
// MmioTransport: the registers of a virtio device over memory-mapped I/O, version 2 (virtio 1.2,
// section 4.2).
//
// Theory of operation. Registers are touched by vCPU threads under one mutex; the device lives on its own
// loop. The driver's initialisation is a state machine on the status register (3.1): ACKNOWLEDGE, DRIVER,
// FEATURES_OK, DRIVER_OK, one after the other; a step out of order, a bit taken back, a register written in
// the wrong state or with a wrong width is ignored and counted. Features are frozen by FEATURES_OK, a queue
// by its QueueReady, all queues by DRIVER_OK. Writing 0 to status resets at any moment and is complete when
// the write returns: the session is closed, so the device touches guest memory no more.
//
// The vCPU side never waits for the loop: it leaves the wanted session in `wanted_` and posts one task (none
// if one is under way) that moves the device from the session it has to the wanted one. However fast a guest
// resets and starts, there is at most one task in the loop.
//
// Kicks. The hypervisor connects kick_fd(i) to writes of value i to QueueNotify; a write that arrives here
// instead does the same. The loop reads the descriptor and calls Device::process(i).
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "devices/bus.h"
#include "devices/irq_line.h"
#include "devices/virtio/device.h"
#include "devices/virtio/session.h"

namespace msb::devices {

inline constexpr std::uint64_t kMmioWindowSize = 0x200;
inline constexpr std::uint64_t kMmioQueueNotify = 0x050;

// Everything a driver can see, as plain values.
struct MmioState {
  struct QueueRegisters {
    QueueConfig config;
    bool ready = false;
    QueueState cursors;
  };
  std::uint32_t device_type = 0;
  std::uint32_t status = 0;
  std::uint32_t interrupt_status = 0;
  std::uint32_t device_features_select = 0;
  std::uint32_t driver_features_select = 0;
  std::uint32_t queue_select = 0;
  std::uint64_t driver_features = 0;
  std::vector<QueueRegisters> queues;
  Bytes config;
  std::uint32_t config_generation = 0;
  Bytes device;  // Device::save()
};

class MmioTransport final : public IoHandler {
 public:
  // All borrowed; `device`, its loops, `memory` and `irq` outlive the transport. Destroy it when the vCPU
  // threads and the device's loops no longer run. Errors: descriptors.
  [[nodiscard]] static Result<std::unique_ptr<MmioTransport>> create(Device& device, vmm::GuestMemory& memory,
                                                                     IrqLine& irq);
  ~MmioTransport() override;

  // vCPU threads. `offset` within kMmioWindowSize.
  void read(std::uint64_t offset, MutableBytes data) override;
  void write(std::uint64_t offset, ByteView data) override;

  [[nodiscard]] std::uint16_t queue_count() const { return static_cast<std::uint16_t>(queues_.size()); }
  // Borrowed eventfd: for KVM_IOEVENTFD at kMmioQueueNotify, length 4, datamatch `queue`.
  [[nodiscard]] int kick_fd(std::uint16_t queue) const { return queues_[queue].kick.get(); }

  // On the device's loop, vCPUs not running. pause() returns when nothing touches guest memory any more;
  // save() only while paused; restore() only on a fresh transport, then resume() starts the device.
  void pause();
  void resume();
  [[nodiscard]] MmioState save() const;
  // kInvalid when the state does not belong to this device or contradicts itself.
  [[nodiscard]] Status restore(const MmioState& state);

  // Metrics; any thread.
  [[nodiscard]] std::uint64_t rejected_accesses() const { return rejected_.load(std::memory_order_relaxed); }
  [[nodiscard]] std::uint64_t guest_errors() const {
    return face_.guest_errors.load(std::memory_order_relaxed);
  }
  // Why the device wants a reset; static text, or null.
  [[nodiscard]] const char* failure() const { return face_.failure.load(std::memory_order_acquire); }

 private:
  struct QueueSlot {
    std::uint16_t max_size = 0;
    UniqueFd kick;
    // Registers; guarded by mutex_.
    QueueConfig config;
    bool ready = false;
    // On the queue's loop.
    EventLoop::IoToken token;
    std::shared_ptr<DriverSession> bound;
  };
  struct ConfigWrite {
    std::uint32_t offset;
    Bytes bytes;
  };
  MmioTransport(Device& device, vmm::GuestMemory& memory, IrqLine& irq);

  [[nodiscard]] std::uint32_t read_register(std::uint64_t offset);
  [[nodiscard]] bool write_register(std::uint64_t offset, std::uint32_t value);
  [[nodiscard]] bool write_status(std::uint32_t value);
  [[nodiscard]] bool write_queue_register(std::uint64_t offset, std::uint32_t value);
  [[nodiscard]] bool write_config(std::uint64_t offset, ByteView data);
  [[nodiscard]] std::uint64_t offered_features() const;
  [[nodiscard]] bool features_acceptable() const;
  [[nodiscard]] QueueSlot* selected_queue();
  void start_session(const MmioState* restored);
  void end_session();
  void want(std::shared_ptr<DriverSession> session);
  void schedule_sync();
  void sync();
  void bind_queue(std::uint16_t index, std::shared_ptr<DriverSession> session);
  void on_kick(std::uint16_t index);
  void deliver_config_writes();
  void reject() { rejected_.fetch_add(1, std::memory_order_relaxed); }

  Device& device_;
  vmm::GuestMemory& memory_;
  DriverFace face_;
  std::atomic<std::uint64_t> rejected_{0};

  mutable std::mutex mutex_;  // registers; the loop takes it only to save and restore, vCPUs standing still
  std::uint32_t device_features_select_ = 0;
  std::uint32_t driver_features_select_ = 0;
  std::uint32_t queue_select_ = 0;
  std::uint64_t driver_features_ = 0;
  std::vector<QueueSlot> queues_;

  std::mutex wanted_mutex_;  // a leaf: nothing else is taken while it is held
  std::shared_ptr<DriverSession> wanted_;
  std::vector<ConfigWrite> config_writes_;
  bool sync_posted_ = false;

  std::shared_ptr<DriverSession> current_;  // on the device's loop
  bool paused_ = false;                     // on the device's loop
};

}  // namespace msb::devices
