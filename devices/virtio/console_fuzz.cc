// SPDX-License-Identifier: Apache-2.0
// A guest that does what it likes with a console, while the host types.
#include "devices/virtio/console.h"

#include "base/check.h"
#include "devices/virtio/testing/fuzz_guest.h"

namespace {
class Counter final : public msb::devices::ConsoleSink {
 public:
  void write(msb::ByteView bytes) override { count += bytes.size(); }
  std::uint64_t count = 0;
};
}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace msb;
  auto loop = EventLoop::create();
  MSB_CHECK(loop.ok());
  Counter sink;
  devices::Console console(**loop, sink);
  devices::testing::run_hostile_guest(console, ByteView(data, size), [&](ByteView input) {
    MSB_CHECK(console.send_input(input) <= input.size());
  });
  return 0;
}
