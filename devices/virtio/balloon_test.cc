// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/balloon.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include "devices/virtio/status.h"
#include "devices/virtio/testing/fake_driver.h"

namespace msb::devices {
namespace {

using testing::Buffer;
using testing::FakeDriver;

class BalloonTest : public ::testing::Test {
 protected:
  Buffer frames(const std::vector<std::uint32_t>& numbers) {
    ByteWriter writer;
    for (const std::uint32_t number : numbers) writer.put(Le32(number));
    return driver_.readable(writer.view());
  }
  // Bytes of host memory behind the guest's.
  std::uint64_t resident() {
    struct stat info {};
    EXPECT_EQ(::fstat(driver_.memory().memfd(), &info), 0);
    return static_cast<std::uint64_t>(info.st_blocks) * 512;
  }
  Buffer stat_buffer(std::uint16_t tag, std::uint64_t value) {
    ByteWriter writer;
    writer.put(Le16(tag));
    writer.put(Le64(value));
    return driver_.readable(writer.view());
  }

  std::unique_ptr<EventLoop> loop_ = std::move(EventLoop::create()).value();
  Balloon balloon_{*loop_};
  FakeDriver driver_{balloon_};
};

TEST_F(BalloonTest, Inflate_GivesPagesBackToTheHost) {
  driver_.start();
  const vmm::Gpa block = driver_.allocate(16 * 4096, 4096);
  ASSERT_TRUE(driver_.memory().write(block, Bytes(16 * 4096, 0x55)));
  const auto first = static_cast<std::uint32_t>(vmm::to_u64(block) / 4096);
  const Buffer list = frames({first + 2, first + 1, first + 3, first + 9, first + 1});
  const std::uint64_t before = resident();
  driver_.run(0, {list});
  EXPECT_EQ(before - resident(), 4u * 4096);
  EXPECT_EQ(driver_.bytes(vmm::Gpa{vmm::to_u64(block) + 4096}, 4096), Bytes(4096));
  EXPECT_EQ(driver_.bytes(block, 4096), Bytes(4096, 0x55));
  driver_.run(1, {frames({first + 1})});
  EXPECT_EQ(balloon_.counters().deflated_pages.load(), 1u);
}

TEST_F(BalloonTest, Inflate_OutsideRam_IsRefusedWithoutHarm) {
  driver_.start();
  driver_.run(0, {frames({0xffff'ffff, 0xc0000, 0x7fff'ffff})});
  EXPECT_EQ(balloon_.counters().refused.load(), 3u);
  EXPECT_EQ(driver_.status() & kStatusNeedsReset, 0u);
}

TEST_F(BalloonTest, Inflate_OddSizes_NeedReset) {
  driver_.start();
  driver_.add(0, {driver_.readable(Bytes(5))});
  driver_.kick(0);
  driver_.pump();
  EXPECT_NE(driver_.status() & kStatusNeedsReset, 0u);
}

TEST_F(BalloonTest, Inflate_HugeList_NeedsReset) {
  driver_.start();
  const Buffer big = driver_.readable(Bytes(1 << 20));
  driver_.add(0, {big, big, big});
  driver_.kick(0);
  driver_.pump();
  EXPECT_NE(driver_.status() & kStatusNeedsReset, 0u);
}

TEST_F(BalloonTest, FreePageReport_GivesRangesBack) {
  driver_.start();
  const vmm::Gpa block = driver_.allocate(64 * 4096, 4096);
  ASSERT_TRUE(driver_.memory().write(block, Bytes(64 * 4096, 0x55)));
  const std::uint64_t before = resident();
  driver_.run(3, {Buffer{block, 32 * 4096, true},
                  Buffer{vmm::Gpa{vmm::to_u64(block) + 40 * 4096 + 100}, 8192, true}});
  EXPECT_EQ(before - resident(), 33u * 4096);
  EXPECT_EQ(driver_.bytes(vmm::Gpa{vmm::to_u64(block) + 40 * 4096}, 100), Bytes(100, 0x55));
}

TEST_F(BalloonTest, QueueNumbers_FollowTheFeaturesTaken) {
  driver_.start(std::uint64_t{1} << 1);  // no statistics: reporting is queue 2
  const vmm::Gpa block = driver_.allocate(4096, 4096);
  driver_.run(2, {Buffer{block, 4096, true}});
  EXPECT_EQ(balloon_.counters().reported_bytes.load(), 4096u);
}

TEST_F(BalloonTest, Target_ReachesTheGuestAndActualComesBack) {
  driver_.start();
  const std::uint64_t interrupts = driver_.irq().count();
  const std::uint32_t generation = driver_.get(0xfc);
  balloon_.set_target(1000);
  EXPECT_EQ(driver_.config(0, 4), (Bytes{0xe8, 3, 0, 0}));
  EXPECT_GT(driver_.irq().count(), interrupts);
  EXPECT_EQ(driver_.get(0x60), 2u);
  EXPECT_NE(driver_.get(0xfc), generation);
  driver_.set(0x104, 900);
  driver_.pump();
  EXPECT_EQ(balloon_.actual(), 900u);
  EXPECT_EQ(driver_.config(4, 4), (Bytes{0x84, 3, 0, 0}));
  driver_.set(0x100, 5);
  EXPECT_EQ(driver_.transport().rejected_accesses(), 1u);
}

TEST_F(BalloonTest, Stats_AreAskedForAndAnswered) {
  driver_.start();
  Balloon::Stats seen;
  EXPECT_FALSE(balloon_.request_stats([](const Balloon::Stats&) {}));
  driver_.add(2, {stat_buffer(4, 1)});
  driver_.kick(2);
  driver_.pump();
  ASSERT_TRUE(balloon_.request_stats([&seen](const Balloon::Stats& stats) { seen = stats; }));
  EXPECT_EQ(driver_.wait_used(2).size(), 1u);
  driver_.add(2, {stat_buffer(4, 4096), stat_buffer(6, 8192), stat_buffer(99, 1)});
  driver_.kick(2);
  driver_.pump();
  EXPECT_EQ(seen.free, 4096u);
  EXPECT_EQ(seen.available, 8192u);
  // Paused and resumed, the guest's buffer is still with us.
  driver_.transport().pause();
  driver_.transport().resume();
  driver_.pump();
  EXPECT_TRUE(balloon_.request_stats([](const Balloon::Stats&) {}));
}

TEST_F(BalloonTest, Reset_ForgetsActual) {
  driver_.start();
  driver_.set(0x104, 900);
  driver_.pump();
  driver_.reset();
  driver_.pump();
  EXPECT_EQ(balloon_.actual(), 0u);
}

}  // namespace
}  // namespace msb::devices
