// SPDX-License-Identifier: Apache-2.0
// Bus: which device answers at an address. One for memory-mapped registers, one for port I/O.
//
// Filled while the machine is built, then only read: vCPU threads look up without a lock. The guest chooses
// the address and the width of each access; what no device claims reads as all ones and swallows writes.
#pragma once

#include <atomic>
#include <cstdint>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"

namespace msb::devices {

// Answers accesses of the vCPU threads, several at a time.
class IoHandler {
 public:
  virtual ~IoHandler() = default;
  // `offset` is relative to where the handler was added; `data` is 1 to 8 bytes and lies wholly inside its
  // window. read() must fill all of `data`. Never blocks for longer than a register access may take.
  virtual void read(std::uint64_t offset, MutableBytes data) = 0;
  virtual void write(std::uint64_t offset, ByteView data) = 0;
};

class Bus {
 public:
  // Adds a window [base, base + size). The handler is borrowed and must outlive the bus's last access.
  // Not while accesses are running. Error kInvalid: empty, past the end of addresses, or overlapping another.
  [[nodiscard]] Status add(std::uint64_t base, std::uint64_t size, IoHandler& handler);

  // Any vCPU thread. False when nothing (or not one single window) is there: `data` is then all ones.
  bool read(std::uint64_t address, MutableBytes data) const;
  // Any vCPU thread. False when nothing is there; the write is dropped.
  bool write(std::uint64_t address, ByteView data) const;

  // How many accesses found nothing, for the metrics.
  [[nodiscard]] std::uint64_t unclaimed() const { return unclaimed_.load(std::memory_order_relaxed); }

 private:
  struct Window {
    std::uint64_t base;
    std::uint64_t size;
    IoHandler* handler;
  };
  [[nodiscard]] const Window* find(std::uint64_t address, std::uint64_t length) const;

  std::vector<Window> windows_;  // sorted by base
  mutable std::atomic<std::uint64_t> unclaimed_{0};
};

}  // namespace msb::devices
