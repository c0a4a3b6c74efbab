// SPDX-License-Identifier: Apache-2.0
// Chain: one buffer the driver made available, walked and validated (virtio 1.2, 2.7.4 - 2.7.5).
#pragma once

#include <cstdint>
#include <vector>

#include "vmm/memory/range_cursor.h"

namespace msb::devices {

// Filled by Queue::pop(). Every range lies in guest RAM; there are at most queue-size descriptors; readable
// ones came before writable ones; the sums fit 32 bits. Overlapping and empty descriptors are legal (empty
// ones leave no range). Reuse one object to reuse its storage.
struct Chain {
  std::uint16_t head = 0;
  std::vector<vmm::HostRange> readable;  // the driver wrote these, the device reads
  std::vector<vmm::HostRange> writable;  // the device writes
  std::uint32_t readable_bytes = 0;
  std::uint32_t writable_bytes = 0;

  [[nodiscard]] vmm::RangeReader reader() const { return vmm::RangeReader(readable); }
  [[nodiscard]] vmm::RangeWriter writer() const { return vmm::RangeWriter(writable); }
  void clear() {
    head = 0;
    readable.clear();
    writable.clear();
    readable_bytes = writable_bytes = 0;
  }
};

}  // namespace msb::devices
