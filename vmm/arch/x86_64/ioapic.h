// SPDX-License-Identifier: Apache-2.0
// The I/O APIC of a split interrupt chip: registers here, local APICs in the kernel.
//
// Theory of operation. Every pin is edge-triggered (arch/x86_64/mptable.h says so to the guest). A pin's
// redirection entry becomes an MSI route, so a device's irqfd reaches a vCPU without passing through here. A
// route is set when its pin is unmasked. An edge that comes while a pin is masked is remembered by the pin's
// InterruptLine (irq_router.h) and delivered when the pin is unmasked. Level-triggered entries are taken as
// edges: nothing of ours asserts a level, so no end-of-interrupt is waited for.
//
// Threads: any vCPU thread; one mutex. Facts: Intel 82093AA data sheet, chapter 3; Intel SDM vol. 3, 11.11.
#pragma once

#include <array>
#include <cstdint>
#include <mutex>

#include "devices/bus.h"
#include "vmm/kvm/vm.h"
#include "vmm/memory_map.h"

namespace msb::vmm {

// What a redirection entry means for the pin.
struct PinState {
  bool masked = true;
  kvm::Msi msi;
  friend bool operator==(const PinState&, const PinState&) = default;
};

// Told of every change of a pin; called with the I/O APIC's mutex held, on a vCPU's thread.
class PinObserver {
 public:
  virtual ~PinObserver() = default;
  virtual void pin_changed(std::uint32_t pin, const PinState& state) = 0;
};

// The registers as plain values, for save and restore.
struct IoapicState {
  std::uint8_t id = 0;
  std::uint8_t selected = 0;
  std::array<std::uint64_t, kMaxIoapicPins> redirection{};
};

class Ioapic final : public devices::IoHandler {
 public:
  // With 1 to kMaxIoapicPins pins. `observer` is borrowed and must outlive the Ioapic.
  Ioapic(PinObserver& observer, std::uint32_t pins);

  // Guest access at `offset` from kIoapicBase. Only aligned 32-bit accesses mean anything; others read as
  // zeros and write nothing.
  void read(std::uint64_t offset, MutableBytes data) override;
  void write(std::uint64_t offset, ByteView data) override;

  [[nodiscard]] IoapicState save();
  // Sets all registers and tells the observer of every pin.
  void restore(const IoapicState& state);

  // The MSI that a redirection entry stands for.
  [[nodiscard]] static PinState decode(std::uint64_t entry);

 private:
  [[nodiscard]] std::uint32_t read_register() const;
  void write_register(std::uint32_t value);

  PinObserver& observer_;
  const std::uint32_t pins_;
  std::mutex mutex_;
  IoapicState state_;  // guarded by mutex_
};

}  // namespace msb::vmm
