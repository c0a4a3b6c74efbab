// SPDX-License-Identifier: Apache-2.0
#include "devices/bus.h"

#include <algorithm>
#include <limits>

namespace msb::devices {

Status Bus::add(std::uint64_t base, std::uint64_t size, IoHandler& handler) {
  if (size == 0 || size - 1 > std::numeric_limits<std::uint64_t>::max() - base) {
    return make_error(Errc::kInvalid, "bus window at %#llx has no valid size",
                      static_cast<unsigned long long>(base));
  }
  const auto after =
      std::upper_bound(windows_.begin(), windows_.end(), base,
                       [](std::uint64_t value, const Window& window) { return value < window.base; });
  const bool hits_next = after != windows_.end() && after->base - base < size;
  const bool hits_previous =
      after != windows_.begin() && base - std::prev(after)->base < std::prev(after)->size;
  if (hits_next || hits_previous) {
    return make_error(Errc::kInvalid, "bus window at %#llx overlaps another",
                      static_cast<unsigned long long>(base));
  }
  windows_.insert(after, Window{base, size, &handler});
  return {};
}

const Bus::Window* Bus::find(std::uint64_t address, std::uint64_t length) const {
  auto after =
      std::upper_bound(windows_.begin(), windows_.end(), address,
                       [](std::uint64_t value, const Window& window) { return value < window.base; });
  if (after == windows_.begin()) return nullptr;
  const Window& window = *std::prev(after);
  const std::uint64_t offset = address - window.base;
  return offset < window.size && length <= window.size - offset ? &window : nullptr;
}

bool Bus::read(std::uint64_t address, MutableBytes data) const {
  if (const Window* window = find(address, data.size())) {
    window->handler->read(address - window->base, data);
    return true;
  }
  std::fill(data.begin(), data.end(), std::uint8_t{0xff});
  unclaimed_.fetch_add(1, std::memory_order_relaxed);
  return false;
}

bool Bus::write(std::uint64_t address, ByteView data) const {
  if (const Window* window = find(address, data.size())) {
    window->handler->write(address - window->base, data);
    return true;
  }
  unclaimed_.fetch_add(1, std::memory_order_relaxed);
  return false;
}

}  // namespace msb::devices
