// SPDX-License-Identifier: Apache-2.0
#include "vmm/arch/x86_64/ioapic.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"

namespace msb::vmm {
namespace {

constexpr std::uint64_t kSelectOffset = 0x00;
constexpr std::uint64_t kWindowOffset = 0x10;
constexpr std::uint8_t kRegisterId = 0;
constexpr std::uint8_t kRegisterVersion = 1;
constexpr std::uint8_t kRegisterArbitration = 2;
constexpr std::uint8_t kRegisterRedirection = 0x10;
constexpr std::uint32_t kVersion = 0x11;

constexpr std::uint64_t kMasked = 1ULL << 16;
// Delivery status (12) and remote IRR (14) are read-only; both stay zero here.
constexpr std::uint64_t kReadOnly = (1ULL << 12) | (1ULL << 14);

}  // namespace

Ioapic::Ioapic(PinObserver& observer, std::uint32_t pins) : observer_(observer), pins_(pins) {
  MSB_CHECK(pins >= 1 && pins <= kMaxIoapicPins);
  state_.redirection.fill(kMasked);
}

PinState Ioapic::decode(std::uint64_t entry) {
  PinState pin;
  pin.masked = (entry & kMasked) != 0;
  const auto destination = static_cast<std::uint32_t>(entry >> 56);
  const auto logical = static_cast<std::uint32_t>(entry >> 11 & 1);
  const auto delivery_and_vector = static_cast<std::uint32_t>(entry & 0x7ff);  // vector 0-7, mode 8-10
  pin.msi.address = static_cast<std::uint32_t>(kLocalApicBase) | destination << 12 | logical << 2;
  pin.msi.data = delivery_and_vector;
  return pin;
}

std::uint32_t Ioapic::read_register() const {
  switch (state_.selected) {
    case kRegisterId:
    case kRegisterArbitration:
      return std::uint32_t{state_.id} << 24;
    case kRegisterVersion:
      return kVersion | (pins_ - 1) << 16;
    default:
      break;
  }
  if (state_.selected < kRegisterRedirection) return 0;
  const std::uint32_t index = (state_.selected - std::uint32_t{kRegisterRedirection}) / 2;
  if (index >= pins_) return 0;
  const std::uint64_t entry = state_.redirection[index];
  return static_cast<std::uint32_t>((state_.selected & 1) != 0 ? entry >> 32 : entry);
}

void Ioapic::write_register(std::uint32_t value) {
  if (state_.selected == kRegisterId) {
    state_.id = static_cast<std::uint8_t>(value >> 24 & 0xf);
    return;
  }
  if (state_.selected < kRegisterRedirection) return;
  const std::uint32_t index = (state_.selected - std::uint32_t{kRegisterRedirection}) / 2;
  if (index >= pins_) return;
  const std::uint64_t before = state_.redirection[index];
  std::uint64_t after;
  if ((state_.selected & 1) != 0) {
    after = (before & 0xffffffffULL) | std::uint64_t{value} << 32;
  } else {
    after = (before & ~0xffffffffULL) | (std::uint64_t{value} & ~kReadOnly);
  }
  state_.redirection[index] = after;
  const PinState pin = decode(after);
  if (pin != decode(before)) observer_.pin_changed(index, pin);
}

void Ioapic::read(std::uint64_t offset, MutableBytes data) {
  std::fill(data.begin(), data.end(), std::uint8_t{0});
  if (data.size() != 4) return;
  const std::lock_guard lock(mutex_);
  std::uint32_t value = 0;
  if (offset == kSelectOffset) value = state_.selected;
  if (offset == kWindowOffset) value = read_register();
  std::memcpy(data.data(), &value, sizeof value);
}

void Ioapic::write(std::uint64_t offset, ByteView data) {
  if (data.size() != 4) return;
  std::uint32_t value = 0;
  std::memcpy(&value, data.data(), sizeof value);
  const std::lock_guard lock(mutex_);
  if (offset == kSelectOffset) state_.selected = static_cast<std::uint8_t>(value);
  if (offset == kWindowOffset) write_register(value);
}

IoapicState Ioapic::save() {
  const std::lock_guard lock(mutex_);
  return state_;
}

void Ioapic::restore(const IoapicState& state) {
  const std::lock_guard lock(mutex_);
  state_ = state;
  for (std::uint32_t pin = 0; pin < pins_; ++pin) {
    observer_.pin_changed(pin, decode(state_.redirection[pin]));
  }
}

}  // namespace msb::vmm
