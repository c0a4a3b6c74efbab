// SPDX-License-Identifier: Apache-2.0
// IrqLine: what a device needs of the interrupt controller.
#pragma once

namespace msb::devices {

class IrqLine {
 public:
  virtual ~IrqLine() = default;
  // Any thread; never blocks. One edge: the guest gets (at least) one interrupt after the call. In the
  // machine this writes the eventfd behind an irqfd.
  virtual void trigger() = 0;
};

}  // namespace msb::devices
