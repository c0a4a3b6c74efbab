// SPDX-License-Identifier: Apache-2.0
#include "virtio.h"

extern "C" void* memset(void* to, int value, std::size_t count);
extern "C" void* memcpy(void* to, const void* from, std::size_t count);

namespace attack {

unsigned Device::queues() const {
  for (unsigned queue = 0; queue < kQueues; ++queue) {
    set(kQueueSelect, queue);
    if (get(kQueueMax) == 0) return queue;
  }
  return kQueues;
}

void Device::negotiate() {
  set(kStatus, kAcknowledge);
  set(kStatus, kAcknowledge | kDriver);
  for (std::uint32_t half = 0; half < 2; ++half) {
    set(kDeviceFeaturesSelect, half);
    set(kDriverFeaturesSelect, half);
    set(kDriverFeatures, get(kDeviceFeatures));
  }
  set(kStatus, kAcknowledge | kDriver | kFeaturesOk);
}

void Device::start() {
  reset();
  negotiate();
  const unsigned count = queues();
  for (unsigned queue = 0; queue < count; ++queue) {
    memset(reinterpret_cast<void*>(area(queue)), 0, 0x4000);
    seen_[queue] = 0;
    set(kQueueSelect, queue);
    set(kQueueSize, kSize);
    set64(kQueueDescriptors, area(queue));
    set64(kQueueAvailable, area(queue) + 0x1000);
    set64(kQueueUsed, area(queue) + 0x2000);
    set(kQueueReady, 1);
  }
  set(kStatus, kAcknowledge | kDriver | kFeaturesOk | kDriverOk);
}

void Device::offer(unsigned queue, std::uint16_t head, bool kick_it) {
  volatile std::uint16_t* const ring = available(queue);
  const std::uint16_t index = ring[1];
  ring[2 + index % kSize] = head;
  asm volatile("mfence" ::: "memory");
  ring[1] = static_cast<std::uint16_t>(index + 1);
  asm volatile("mfence" ::: "memory");
  if (kick_it) kick(queue);
}

bool Device::wait_used(unsigned queue) {
  constexpr unsigned kPatience = 1000;
  for (unsigned i = 0; i < kPatience; ++i) {
    const std::uint16_t now = used(queue)[1];
    if (now != seen_[queue]) {
      seen_[queue] = now;
      return true;
    }
    // An exit gives the host's threads a turn, and says when waiting is in vain.
    if (i % 64 == 63 && (get(kStatus) & kNeedsReset) != 0) return false;
  }
  return false;
}

bool Device::send(unsigned queue, const Descriptor* chain, std::uint16_t count) {
  memcpy(table(queue), chain, count * sizeof(Descriptor));
  offer(queue, 0);
  return wait_used(queue);
}

}  // namespace attack
