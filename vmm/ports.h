// SPDX-License-Identifier: Apache-2.0
// The few I/O ports of the machine: where the guest asks for a reset, and an early console.
#pragma once

#include <functional>

#include "devices/bus.h"
#include "vmm/guest_console.h"

namespace msb::vmm {

// The keyboard controller's command port (0x64: value 0xfe pulses the reset line) and the reset control
// register of PC chip sets (0xcf9: bit 2 resets). Reads as an idle controller.
class ResetPort final : public devices::IoHandler {
 public:
  static constexpr std::uint64_t kKeyboardPort = 0x64;
  static constexpr std::uint64_t kControlPort = 0xcf9;
  enum class Kind : std::uint8_t { kKeyboard, kControl };
  // `on_reset` is called on the vCPU's thread, possibly more than once.
  ResetPort(Kind kind, std::function<void()> on_reset) : kind_(kind), on_reset_(std::move(on_reset)) {}
  void read(std::uint64_t offset, MutableBytes data) override;
  void write(std::uint64_t offset, ByteView data) override;

 private:
  const Kind kind_;
  std::function<void()> on_reset_;
};

// The transmit half of a 16550 at COM1: enough for earlyprintk. Bytes are gathered into lines.
class EarlyConsole final : public devices::IoHandler {
 public:
  static constexpr std::uint64_t kPort = 0x3f8;
  static constexpr std::uint64_t kPorts = 8;
  explicit EarlyConsole(GuestConsole& console) : console_(console) {}
  void read(std::uint64_t offset, MutableBytes data) override;
  void write(std::uint64_t offset, ByteView data) override;

 private:
  GuestConsole& console_;
  std::mutex mutex_;
  Bytes line_;  // guarded by mutex_
  bool divisor_access_ =
      false;  // guarded by mutex_: the transmit register is the divisor's low byte meanwhile
};

}  // namespace msb::vmm
