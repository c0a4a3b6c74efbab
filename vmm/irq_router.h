// SPDX-License-Identifier: Apache-2.0
// IrqRouter: from a device's line to a vCPU: eventfd -> irqfd -> the MSI route that the I/O APIC's entry asks
// for.
//
// Theory of operation. trigger() writes the eventfd unless the guest has masked the pin; then the edge is
// only remembered, and unmasking raises the line once. Routes of masked pins stay in place: an edge that was
// on its way when the guest masked the pin arrives, as it would from hardware. A route change goes to KVM
// only when a pin is unmasked with another MSI than KVM knows, since each change waits for a grace period in
// the host.
//
// Threads: trigger() from any; pin_changed() under the I/O APIC's mutex; lines are added before vCPUs run.
#pragma once

#include <array>
#include <atomic>
#include <memory>
#include <vector>

#include "base/unique_fd.h"
#include "devices/irq_line.h"
#include "vmm/arch/x86_64/ioapic.h"
#include "vmm/kvm/vm.h"

namespace msb::vmm {

class InterruptLine final : public devices::IrqLine {
 public:
  explicit InterruptLine(UniqueFd event) : event_(std::move(event)) {}
  void trigger() override;
  void set_masked(bool masked);
  [[nodiscard]] int event_fd() const { return event_.get(); }

 private:
  void signal();
  UniqueFd event_;
  // Sequentially consistent, so that an edge and an unmask that cross cannot both miss each other.
  std::atomic<bool> masked_{true};
  std::atomic<bool> pending_{false};
};

class IrqRouter final : public PinObserver {
 public:
  // `vm` is borrowed and must outlive the router.
  explicit IrqRouter(kvm::Vm& vm) : vm_(vm) {}
  // Makes the line behind `pin` (below kMaxIoapicPins, not taken yet). Owned by the router.
  [[nodiscard]] Result<devices::IrqLine*> add_line(std::uint32_t pin);
  void pin_changed(std::uint32_t pin, const PinState& state) override;

 private:
  kvm::Vm& vm_;
  std::array<std::unique_ptr<InterruptLine>, kMaxIoapicPins> lines_;
  std::vector<kvm::GsiRoute> routes_;  // as KVM has them, at most one per pin
};

}  // namespace msb::vmm
