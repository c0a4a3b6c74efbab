// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/session.h"

#include <unistd.h>

#include <mutex>

#include "devices/virtio/status.h"

namespace msb::devices {

DriverSession::Lease DriverSession::enter() {
  // Looked at before taking the lock too, so that a stream of leases cannot keep a closing thread waiting.
  if (gate_.load(std::memory_order_acquire) != Gate::kOpen) return Lease();
  Lease lease(mutex_);
  if (gate_.load(std::memory_order_acquire) != Gate::kOpen) return Lease();
  return lease;
}

void DriverSession::set_gate(Gate to) {
  Gate expected = gate_.load(std::memory_order_acquire);
  // Closed is final.
  while (expected != Gate::kClosed && !gate_.compare_exchange_weak(expected, to, std::memory_order_acq_rel)) {
  }
  const std::unique_lock wait_for_leases(mutex_);
}

void DriverSession::resume() {
  Gate expected = Gate::kPaused;
  gate_.compare_exchange_strong(expected, Gate::kOpen, std::memory_order_acq_rel);
}

void DriverSession::signal_used(std::uint16_t index) {
  Queue* ring = queue(index);
  if (ring == nullptr) return;
  ring->publish_used();
  if (!ring->needs_interrupt()) return;
  face_.interrupt_status.fetch_or(kInterruptQueue, std::memory_order_acq_rel);
  face_.irq.trigger();
}

void DriverSession::signal_config() {
  face_.interrupt_status.fetch_or(kInterruptConfig, std::memory_order_acq_rel);
  face_.irq.trigger();
}

void DriverSession::fail(const char* reason) {
  if (failed_.exchange(true, std::memory_order_acq_rel)) return;
  face_.failure.store(reason, std::memory_order_release);
  face_.guest_errors.fetch_add(1, std::memory_order_relaxed);
  face_.status.fetch_or(kStatusNeedsReset, std::memory_order_acq_rel);
  signal_config();
}

void DriverSession::kick_again(std::uint16_t index) {
  if (index >= kick_fds_.size()) return;
  const std::uint64_t one = 1;
  // Only EAGAIN can happen, when the counter is full; then the kick is pending anyway.
  [[maybe_unused]] const auto written = ::write(kick_fds_[index], &one, sizeof one);
}

}  // namespace msb::devices
