// SPDX-License-Identifier: Apache-2.0
// Queue: the device's half of a split virtqueue (virtio 1.2, section 2.7), with indirect descriptors and
// EVENT_IDX notification suppression.
//
// Theory of operation. The configuration is fixed at creation: addresses, alignment and sizes were checked
// against guest RAM, so ring accesses cannot fail later. Our two cursors (next_available, next_used) are
// private and wrap at 16 bits; what the driver writes over our copy of an index in RAM is never read back. A
// driver that breaks the rules of the ring makes the queue broken for good: pop() says so from then on, and
// the device asks for a reset. A queue belongs to one thread at a time.
#pragma once

#include <cstdint>

#include "base/result.h"
#include "devices/virtio/chain.h"
#include "vmm/memory/guest_memory.h"

namespace msb::devices {

// Feature bits of the ring (virtio 1.2, section 6).
inline constexpr std::uint64_t kFeatureIndirect = std::uint64_t{1} << 28;
inline constexpr std::uint64_t kFeatureEventIdx = std::uint64_t{1} << 29;
inline constexpr std::uint64_t kFeatureVersion1 = std::uint64_t{1} << 32;

inline constexpr std::uint16_t kMaxQueueSize = 1024;

// Whether the step of an index from `before` to `now` passed `event` (2.7.10): all modulo 2^16.
[[nodiscard]] constexpr bool passed_event(std::uint16_t event, std::uint16_t now, std::uint16_t before) {
  return static_cast<std::uint16_t>(now - event - 1) < static_cast<std::uint16_t>(now - before);
}
static_assert(passed_event(0xffff, 0x0000, 0xffff), "the wrap must not lose a notification");
static_assert(!passed_event(0x0000, 0x0000, 0xffff) && passed_event(5, 8, 4) && !passed_event(8, 8, 4));

// As the driver wrote it into the transport's registers.
struct QueueConfig {
  std::uint16_t size = 0;
  vmm::Gpa descriptors{};
  vmm::Gpa available{};
  vmm::Gpa used{};
};

// The cursors, for save and restore. Any values are safe to restore.
struct QueueState {
  std::uint16_t next_available = 0;
  std::uint16_t next_used = 0;
  std::uint16_t signalled_used = 0;  // next_used when an interrupt was last considered
  bool signalled_valid = false;
  bool broken = false;
};

class Queue {
 public:
  // kInvalid when the size is not a power of two up to kMaxQueueSize, an area is misaligned or not in RAM.
  // `memory` is borrowed. `features` are the negotiated ones.
  [[nodiscard]] static Result<Queue> create(const QueueConfig& config, vmm::GuestMemory& memory,
                                            std::uint64_t features, const QueueState& state = {});

  enum class Pop : std::uint8_t {
    kEmpty,   // nothing available
    kChain,   // `chain` holds the next buffer; give it back with push_used() or undo_pop()
    kBroken,  // the driver broke the ring; see broken_reason()
  };
  // Takes the next available buffer.
  [[nodiscard]] Pop pop(Chain& chain);
  // Puts the last `count` popped and not yet pushed buffers back: the next pop() finds them again.
  void undo_pop(std::uint16_t count = 1) {
    state_.next_available = static_cast<std::uint16_t>(state_.next_available - count);
  }
  // Whether pop() would find something. Broken queues have nothing.
  [[nodiscard]] bool has_available() const;

  // Stages the buffer `head` as used with `written` bytes stored by the device. publish_used() makes all
  // staged ones visible to the driver at once.
  void push_used(std::uint16_t head, std::uint32_t written);
  void publish_used();
  // After publish_used(): whether the driver wants an interrupt for what was published since the last call.
  [[nodiscard]] bool needs_interrupt();

  // Tells the driver that it need not kick: we are looking anyway. A hint.
  void disable_kicks();
  // Asks for a kick at the next available buffer. True when one is available already (look again: the driver
  // may have seen the old hint).
  [[nodiscard]] bool enable_kicks();

  [[nodiscard]] std::uint16_t size() const { return config_.size; }
  [[nodiscard]] const QueueConfig& config() const { return config_; }
  [[nodiscard]] const QueueState& state() const { return state_; }
  // Static text; null while the queue is whole.
  [[nodiscard]] const char* broken_reason() const { return reason_; }

 private:
  Queue(const QueueConfig& config, vmm::GuestMemory& memory, std::uint64_t features, const QueueState& state);
  [[nodiscard]] Pop broken(const char* reason);
  [[nodiscard]] bool walk(Chain& chain);
  [[nodiscard]] std::uint16_t load_index(vmm::Gpa base, std::uint64_t offset) const;
  void store_index(vmm::Gpa base, std::uint64_t offset, std::uint16_t value);

  QueueConfig config_;
  vmm::GuestMemory* memory_;
  bool event_idx_;
  bool indirect_;
  QueueState state_;
  const char* reason_ = nullptr;
};

}  // namespace msb::devices
