// SPDX-License-Identifier: Apache-2.0
#include "vmm/irq_router.h"

#include <sys/eventfd.h>

#include <algorithm>

#include "base/check.h"
#include "base/log.h"

namespace msb::vmm {

void InterruptLine::signal() {
  const std::uint64_t one = 1;
  // Cannot fail but for a counter at its limit, and then an interrupt is on its way already.
  static_cast<void>(::write(event_.get(), &one, sizeof one) < 0);
}

void InterruptLine::trigger() {
  if (!masked_.load()) {
    signal();
    return;
  }
  pending_.store(true);
  if (!masked_.load() && pending_.exchange(false)) signal();
}

void InterruptLine::set_masked(bool masked) {
  masked_.store(masked);
  if (!masked && pending_.exchange(false)) signal();
}

Result<devices::IrqLine*> IrqRouter::add_line(std::uint32_t pin) {
  MSB_CHECK(pin < kMaxIoapicPins && lines_[pin] == nullptr);
  UniqueFd event(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!event) return sys_error("create an interrupt's eventfd");
  MSB_TRY(vm_.add_irqfd(event.get(), pin));
  lines_[pin] = std::make_unique<InterruptLine>(std::move(event));
  return static_cast<devices::IrqLine*>(lines_[pin].get());
}

void IrqRouter::pin_changed(std::uint32_t pin, const PinState& state) {
  InterruptLine* line = lines_[pin].get();
  if (line == nullptr) return;  // nothing is wired to that pin
  if (state.masked) {
    line->set_masked(true);
    return;
  }
  const auto known =
      std::find_if(routes_.begin(), routes_.end(), [&](const kvm::GsiRoute& r) { return r.gsi == pin; });
  if (known == routes_.end() || known->msi != state.msi) {
    if (known == routes_.end()) {
      routes_.push_back({pin, state.msi});
    } else {
      known->msi = state.msi;
    }
    // A guest may ask for what no local APIC takes; then the pin stays silent, which hurts only that guest.
    const Status status = vm_.set_gsi_routes(routes_);
    if (!status) MSB_LOG_LIMITED(LogLevel::kWarn, "interrupt pin %u: %s", pin, status.error().text.c_str());
  }
  line->set_masked(false);
}

}  // namespace msb::vmm
