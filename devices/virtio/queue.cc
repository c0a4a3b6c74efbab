// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/queue.h"

#include <atomic>
#include <bit>
#include <limits>

#include "base/check.h"
#include "base/wire.h"

namespace msb::devices {
namespace {

using vmm::Gpa;

// 2.7.5: struct virtq_desc
struct Descriptor {
  Le64 address;
  Le32 length;
  Le16 flags;
  Le16 next;
};
static_assert(sizeof(Descriptor) == 16);
constexpr std::uint16_t kFlagNext = 1;
constexpr std::uint16_t kFlagWrite = 2;
constexpr std::uint16_t kFlagIndirect = 4;

// 2.7.8: struct virtq_used_elem
struct UsedElement {
  Le32 id;
  Le32 length;
};
static_assert(sizeof(UsedElement) == 8);

// Both rings start with u16 flags, u16 idx, then the entries, then (EVENT_IDX) a u16 event index.
constexpr std::uint64_t kRingFlags = 0;
constexpr std::uint64_t kRingIndex = 2;
constexpr std::uint64_t kRingEntries = 4;
constexpr std::uint64_t kAvailableEntry = 2;
constexpr std::uint16_t kNoInterrupt = 1;  // in the available ring's flags
constexpr std::uint16_t kNoNotify = 1;     // in the used ring's flags

constexpr std::uint64_t available_bytes(std::uint64_t size) {
  return kRingEntries + kAvailableEntry * size + 2;
}
constexpr std::uint64_t used_bytes(std::uint64_t size) {
  return kRingEntries + sizeof(UsedElement) * size + 2;
}

// Only for areas whose end was checked at creation.
Gpa at(Gpa base, std::uint64_t offset) { return Gpa{vmm::to_u64(base) + offset}; }
bool aligned(Gpa address, std::uint64_t alignment) { return vmm::to_u64(address) % alignment == 0; }

}  // namespace

Result<Queue> Queue::create(const QueueConfig& config, vmm::GuestMemory& memory, std::uint64_t features,
                            const QueueState& state) {
  if (!std::has_single_bit(config.size) || config.size > kMaxQueueSize) {
    return make_error(Errc::kInvalid, "queue size %u is not a power of two up to %u", config.size,
                      kMaxQueueSize);
  }
  if (!aligned(config.descriptors, 16) || !aligned(config.available, 2) || !aligned(config.used, 4)) {
    return make_error(Errc::kInvalid, "a queue area is misaligned");
  }
  if (!memory.contains(config.descriptors, sizeof(Descriptor) * std::uint64_t{config.size}) ||
      !memory.contains(config.available, available_bytes(config.size)) ||
      !memory.contains(config.used, used_bytes(config.size))) {
    return make_error(Errc::kInvalid, "a queue area is not in guest memory");
  }
  return Queue(config, memory, features, state);
}

Queue::Queue(const QueueConfig& config, vmm::GuestMemory& memory, std::uint64_t features,
             const QueueState& state)
    : config_(config),
      memory_(&memory),
      event_idx_((features & kFeatureEventIdx) != 0),
      indirect_((features & kFeatureIndirect) != 0),
      state_(state),
      reason_(state.broken ? "queue was broken before it was saved" : nullptr) {}

std::uint16_t Queue::load_index(Gpa base, std::uint64_t offset) const {
  const auto value = memory_->load_acquire(at(base, offset));
  MSB_CHECK(value.has_value());  // checked at creation; regions never change
  return *value;
}

void Queue::store_index(Gpa base, std::uint64_t offset, std::uint16_t value) {
  MSB_CHECK(memory_->store_release(at(base, offset), value));
}

Queue::Pop Queue::broken(const char* reason) {
  state_.broken = true;
  reason_ = reason;
  return Pop::kBroken;
}

bool Queue::has_available() const {
  return !state_.broken && load_index(config_.available, kRingIndex) != state_.next_available;
}

Queue::Pop Queue::pop(Chain& chain) {
  if (state_.broken) return Pop::kBroken;
  const std::uint16_t index = load_index(config_.available, kRingIndex);
  const auto pending = static_cast<std::uint16_t>(index - state_.next_available);
  if (pending == 0) return Pop::kEmpty;
  if (pending > config_.size) return broken("more buffers available than the queue holds");
  const std::uint64_t slot = state_.next_available % config_.size;
  chain.clear();
  chain.head = load_index(config_.available, kRingEntries + kAvailableEntry * slot);
  if (chain.head >= config_.size) return broken("descriptor index outside the table");
  if (!walk(chain)) return Pop::kBroken;
  ++state_.next_available;
  return Pop::kChain;
}

// Follows the chain from chain.head; false after broken().
bool Queue::walk(Chain& chain) {
  Gpa table = config_.descriptors;
  std::uint16_t entries = config_.size;
  std::uint16_t next = chain.head;
  bool in_indirect = false;
  std::uint64_t total = 0;
  const auto fail = [this](const char* reason) {
    (void)broken(reason);
    return false;
  };
  // One step more than descriptors are allowed: the entry that refers to an indirect table is not one of
  // them.
  for (std::uint32_t step = 0; step <= config_.size; ++step) {
    if (next >= entries) return fail("descriptor index outside the table");
    const auto descriptor = memory_->read<Descriptor>(at(table, sizeof(Descriptor) * std::uint64_t{next}));
    if (!descriptor) return fail("descriptor table is not in guest memory");
    const std::uint16_t flags = descriptor->flags.get();
    const std::uint32_t length = descriptor->length.get();
    const Gpa address{descriptor->address.get()};
    if ((flags & kFlagIndirect) != 0) {
      // 2.7.5.3: only when negotiated, not nested, last of its chain, whole entries, at most queue-size of
      // them.
      if (!indirect_ || in_indirect || (flags & kFlagNext) != 0)
        return fail("indirect descriptor not allowed here");
      const std::uint32_t count = length / sizeof(Descriptor);
      if (length % sizeof(Descriptor) != 0 || count == 0 || count > config_.size) {
        return fail("indirect table of a size that is not allowed");
      }
      if (!memory_->contains(address, length)) return fail("indirect table is not in guest memory");
      in_indirect = true;
      table = address;
      entries = static_cast<std::uint16_t>(count);
      next = 0;
      continue;
    }
    total += length;
    if (total > std::numeric_limits<std::uint32_t>::max()) return fail("buffer of 4 GiB or more");
    const bool device_writes = (flags & kFlagWrite) != 0;
    if (device_writes) {
      if (!memory_->host_ranges(address, length, vmm::Access::kDeviceWrites, chain.writable)) {
        return fail("buffer is not in guest memory");
      }
      chain.writable_bytes += length;
    } else {
      if (chain.writable_bytes > 0) return fail("readable buffer after a writable one");
      if (!memory_->host_ranges(address, length, vmm::Access::kDeviceReads, chain.readable)) {
        return fail("buffer is not in guest memory");
      }
      chain.readable_bytes += length;
    }
    if ((flags & kFlagNext) == 0) return true;
    next = descriptor->next.get();
  }
  return fail("descriptor chain longer than the queue");
}

void Queue::push_used(std::uint16_t head, std::uint32_t written) {
  const std::uint64_t slot = state_.next_used % config_.size;
  const UsedElement element{Le32(head), Le32(written)};
  MSB_CHECK(memory_->write(at(config_.used, kRingEntries + sizeof(UsedElement) * slot), element));
  ++state_.next_used;
}

void Queue::publish_used() { store_index(config_.used, kRingIndex, state_.next_used); }

bool Queue::needs_interrupt() {
  // Our index must be visible before we look at what the driver asks for, else both sides may wait (2.7.7.2).
  std::atomic_thread_fence(std::memory_order_seq_cst);
  const std::uint16_t before = state_.signalled_used;
  const bool known = state_.signalled_valid;
  state_.signalled_used = state_.next_used;
  state_.signalled_valid = true;
  if (known && before == state_.next_used) return false;
  if (!event_idx_) return (load_index(config_.available, kRingFlags) & kNoInterrupt) == 0;
  const std::uint16_t event = load_index(config_.available, kRingEntries + kAvailableEntry * config_.size);
  return !known || passed_event(event, state_.next_used, before);
}

void Queue::disable_kicks() {
  // With EVENT_IDX a stale event index suppresses by itself.
  if (!event_idx_) store_index(config_.used, kRingFlags, kNoNotify);
}

bool Queue::enable_kicks() {
  if (event_idx_) {
    store_index(config_.used, kRingEntries + sizeof(UsedElement) * std::uint64_t{config_.size},
                state_.next_available);
  } else {
    store_index(config_.used, kRingFlags, 0);
  }
  // The request must be visible before we look again (2.7.10.1).
  std::atomic_thread_fence(std::memory_order_seq_cst);
  return has_available();
}

}  // namespace msb::devices
