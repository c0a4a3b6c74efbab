// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/device.h"

#include <algorithm>

#include "base/check.h"

namespace msb::devices {

void ConfigSpace::read(std::uint64_t offset, MutableBytes out) const {
  std::fill(out.begin(), out.end(), std::uint8_t{0});
  const std::lock_guard lock(mutex_);
  if (offset >= bytes_.size()) return;
  const std::size_t length = std::min<std::size_t>(out.size(), bytes_.size() - offset);
  std::copy_n(bytes_.begin() + static_cast<std::ptrdiff_t>(offset), length, out.begin());
}

void ConfigSpace::update(std::size_t offset, ByteView bytes) {
  const std::lock_guard lock(mutex_);
  MSB_CHECK(offset <= bytes_.size() && bytes.size() <= bytes_.size() - offset);
  std::copy(bytes.begin(), bytes.end(), bytes_.begin() + static_cast<std::ptrdiff_t>(offset));
  ++generation_;
}

std::uint32_t ConfigSpace::generation() const {
  const std::lock_guard lock(mutex_);
  return generation_;
}

Bytes ConfigSpace::snapshot() const {
  const std::lock_guard lock(mutex_);
  return bytes_;
}

bool ConfigSpace::restore(ByteView bytes, std::uint32_t generation) {
  const std::lock_guard lock(mutex_);
  if (bytes.size() != bytes_.size()) return false;
  bytes_.assign(bytes.begin(), bytes.end());
  generation_ = generation;
  return true;
}

}  // namespace msb::devices
