// SPDX-License-Identifier: Apache-2.0
#include "vmm/ports.h"

#include <algorithm>

namespace msb::vmm {
namespace {
constexpr std::uint8_t kPulseReset = 0xfe;
constexpr std::uint8_t kControlReset = 0x04;
constexpr std::uint64_t kTransmit = 0;
constexpr std::uint64_t kLineControl = 3;
constexpr std::uint8_t kDivisorAccess = 0x80;
constexpr std::uint64_t kLineStatus = 5;
constexpr std::uint8_t kTransmitterEmpty = 0x60;
constexpr std::size_t kMaxEarlyLine = 256;
}  // namespace

void ResetPort::read(std::uint64_t, MutableBytes data) {
  std::fill(data.begin(), data.end(), std::uint8_t{0});
}

void ResetPort::write(std::uint64_t, ByteView data) {
  if (data.size() != 1) return;
  const bool reset = kind_ == Kind::kKeyboard ? data[0] == kPulseReset : (data[0] & kControlReset) != 0;
  if (reset) on_reset_();
}

void EarlyConsole::read(std::uint64_t offset, MutableBytes data) {
  std::fill(data.begin(), data.end(), std::uint8_t{0});
  if (offset == kLineStatus) data[0] = kTransmitterEmpty;
}

void EarlyConsole::write(std::uint64_t offset, ByteView data) {
  const std::lock_guard lock(mutex_);
  if (offset == kLineControl) divisor_access_ = (data[0] & kDivisorAccess) != 0;
  if (offset != kTransmit || divisor_access_) return;
  line_.push_back(data[0]);
  if (data[0] != '\n' && line_.size() < kMaxEarlyLine) return;
  console_.write(line_);
  line_.clear();
}

}  // namespace msb::vmm
