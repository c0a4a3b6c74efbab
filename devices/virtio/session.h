// SPDX-License-Identifier: Apache-2.0
// DriverSession: one life of a driver, from DRIVER_OK to reset: the negotiated features and the queues.
//
// Theory of operation. A reset comes from a vCPU thread at any moment and must leave guest memory alone from
// then on, while the device works on its own event loop. So the transport closes the session (which waits for
// the short piece of work in progress, nothing else) and only then tells the device, by a posted task, to
// forget it. Device code touches queues and guest memory only while it holds a Lease; once the session is
// closed no lease is given. Kept by shared_ptr: the second owner beside the device is the transport.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <shared_mutex>
#include <vector>

#include "base/unique_fd.h"
#include "devices/irq_line.h"
#include "devices/virtio/queue.h"

namespace msb::devices {

// What the driver sees of the device's condition; outlives sessions, lock-free. Owned by the transport.
struct DriverFace {
  explicit DriverFace(IrqLine& line) : irq(line) {}
  IrqLine& irq;
  std::atomic<std::uint32_t> interrupt_status{0};
  std::atomic<std::uint32_t> status{0};
  std::atomic<std::uint64_t> guest_errors{0};  // how often a device asked for a reset
  std::atomic<const char*> failure{nullptr};   // why it last did; static text, cleared by reset
};

class DriverSession : public std::enable_shared_from_this<DriverSession> {
 public:
  class Lease {
   public:
    explicit operator bool() const { return lock_.owns_lock(); }

   private:
    friend class DriverSession;
    Lease() = default;
    explicit Lease(std::shared_mutex& mutex) : lock_(mutex) {}
    std::shared_lock<std::shared_mutex> lock_;
  };

  // `kick_fds[i]` is borrowed and makes the transport call Device::process(i) when written.
  DriverSession(DriverFace& face, std::uint64_t features, vmm::GuestMemory& memory,
                std::vector<std::optional<Queue>> queues, std::vector<int> kick_fds)
      : face_(face),
        features_(features),
        memory_(memory),
        queues_(std::move(queues)),
        kick_fds_(std::move(kick_fds)) {}

  // Any thread. A false lease means: the session is over (or paused), touch nothing. Do not nest on one
  // thread.
  [[nodiscard]] Lease enter();

  [[nodiscard]] std::uint64_t features() const { return features_; }
  [[nodiscard]] bool has(std::uint64_t feature) const { return (features_ & feature) != 0; }
  [[nodiscard]] vmm::GuestMemory& memory() { return memory_; }
  [[nodiscard]] std::uint16_t queue_count() const { return static_cast<std::uint16_t>(queues_.size()); }
  // Null when the driver did not set that queue up. Use under a lease, on the queue's own loop.
  [[nodiscard]] Queue* queue(std::uint16_t index) {
    return index < queues_.size() && queues_[index] ? &*queues_[index] : nullptr;
  }

  // The following: under a lease.
  // Publishes what was staged on queue `index` and interrupts the driver if it asked for that.
  void signal_used(std::uint16_t index);
  // Tells the driver that the configuration space changed.
  void signal_config();
  // The driver broke the rules: DEVICE_NEEDS_RESET (2.1.2). The device stops looking at that queue.
  void fail(const char* reason);
  // Makes the transport call Device::process(index) again: for work left over when a budget is spent.
  void kick_again(std::uint16_t index);
  // Whether fail() was called: the queues are dead then. Any thread.
  [[nodiscard]] bool failed() const { return failed_.load(std::memory_order_acquire); }

  // Transport only. close() and pause() return when no lease is held any more.
  void close() { set_gate(Gate::kClosed); }
  void pause() { set_gate(Gate::kPaused); }
  void resume();
  [[nodiscard]] bool closed() const { return gate_.load(std::memory_order_acquire) == Gate::kClosed; }

 private:
  enum class Gate : std::uint8_t { kOpen, kPaused, kClosed };
  void set_gate(Gate to);

  DriverFace& face_;
  const std::uint64_t features_;
  vmm::GuestMemory& memory_;
  std::vector<std::optional<Queue>> queues_;
  std::vector<int> kick_fds_;
  std::atomic<bool> failed_{false};
  std::atomic<Gate> gate_{Gate::kOpen};
  std::shared_mutex mutex_;  // shared: a lease; exclusive: changing the gate
};

}  // namespace msb::devices
