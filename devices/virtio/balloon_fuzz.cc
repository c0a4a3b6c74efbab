// SPDX-License-Identifier: Apache-2.0
// A guest that does what it likes with a balloon, while the host asks for pages and statistics.
#include "devices/virtio/balloon.h"

#include "base/check.h"
#include "devices/virtio/testing/fuzz_guest.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace msb;
  auto loop = EventLoop::create();
  MSB_CHECK(loop.ok());
  devices::Balloon balloon(**loop);
  devices::testing::run_hostile_guest(balloon, ByteView(data, size), [&](ByteView input) {
    if (input.size() % 2 == 0) {
      static_cast<void>(balloon.request_stats([](const devices::Balloon::Stats&) {}));
    } else {
      balloon.set_target(input[0]);
    }
  });
  return 0;
}
