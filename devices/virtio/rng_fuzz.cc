// SPDX-License-Identifier: Apache-2.0
// A guest that does what it likes with an entropy device. The source never gives more than is asked for, and
// no request may ask for more than one answer's limit.
#include "devices/virtio/rng.h"

#include <algorithm>

#include "base/check.h"
#include "devices/virtio/testing/fuzz_guest.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace msb;
  auto loop = EventLoop::create();
  MSB_CHECK(loop.ok());
  bool works = true;
  devices::Rng rng(**loop, [&works](MutableBytes out) {
    MSB_CHECK(out.size() <= devices::Rng::kMaxBytes);
    std::fill(out.begin(), out.end(), std::uint8_t{0x5a});
    return works;
  });
  devices::testing::run_hostile_guest(rng, ByteView(data, size), [&works](ByteView) { works = !works; });
  return 0;
}
