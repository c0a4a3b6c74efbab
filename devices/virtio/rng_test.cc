// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/rng.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "devices/virtio/status.h"
#include "devices/virtio/testing/fake_driver.h"

namespace msb::devices {
namespace {

using testing::Buffer;
using ::testing::Each;
using testing::FakeDriver;

bool fill_ab(MutableBytes out) {
  std::fill(out.begin(), out.end(), std::uint8_t{0xab});
  return true;
}

class RngTest : public ::testing::Test {
 protected:
  std::unique_ptr<EventLoop> loop_ = std::move(EventLoop::create()).value();
};

TEST_F(RngTest, WritableBuffer_IsFilledAndReturned) {
  Rng rng(*loop_, fill_ab);
  FakeDriver driver(rng);
  driver.start();
  const Buffer a = driver.writable(16);
  const Buffer b = driver.writable(5);
  EXPECT_EQ(driver.run(0, {a, b}).length, 21u);
  EXPECT_THAT(driver.bytes(a), Each(0xab));
  EXPECT_THAT(driver.bytes(b), Each(0xab));
}

TEST_F(RngTest, OverlappingDescriptors_AnswerIsCapped) {
  Rng rng(*loop_, fill_ab);
  FakeDriver driver(rng);
  driver.start();
  const Buffer big = driver.writable(1 << 20);
  EXPECT_EQ(driver.run(0, {big, big, big, big}).length, Rng::kMaxBytes);
}

TEST_F(RngTest, ReadableBuffer_NeedsReset) {
  Rng rng(*loop_, fill_ab);
  FakeDriver driver(rng);
  driver.start();
  driver.add(0, {driver.readable("x")});
  driver.kick(0);
  driver.pump();
  EXPECT_NE(driver.status() & kStatusNeedsReset, 0u);
  EXPECT_STREQ(driver.transport().failure(), "entropy request without room for an answer");
}

TEST_F(RngTest, SourceFails_BufferComesBackEmpty) {
  Rng rng(*loop_, [](MutableBytes) { return false; });
  FakeDriver driver(rng);
  driver.start();
  EXPECT_EQ(driver.run(0, {driver.writable(8)}).length, 0u);
}

TEST_F(RngTest, ManyRequests_AllAnswered) {
  Rng rng(*loop_, Rng::system_source());
  FakeDriver driver(rng);
  driver.start();
  for (int i = 0; i < 60; ++i) driver.add(0, {driver.writable(64)});
  driver.kick(0);
  EXPECT_EQ(driver.wait_used(0, 60).size(), 60u);
}

}  // namespace
}  // namespace msb::devices
