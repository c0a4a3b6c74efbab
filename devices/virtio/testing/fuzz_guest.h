// SPDX-License-Identifier: Apache-2.0
// A hostile guest for fuzz targets: an input is a program of driver actions on a device.
#pragma once

#include <functional>

#include "devices/virtio/testing/fake_driver.h"

namespace msb::devices::testing {

// Starts the device, then runs `input`: each action is an opcode byte and its operands. Actions write
// registers and memory, make well-formed and malformed chains available, kick, reset, restart and pause.
// `host` is the host side's turn: called with some bytes of the input. At the end the device is reset and
// must still answer.
void run_hostile_guest(Device& device, ByteView input, const std::function<void(ByteView)>& host = {});

}  // namespace msb::devices::testing
