// SPDX-License-Identifier: Apache-2.0
// The ring and the transport, seen from a driver that misbehaves.
#include "devices/virtio/mmio.h"

#include <gtest/gtest.h>

#include <thread>

#include "devices/bus.h"
#include "devices/virtio/rng.h"
#include "devices/virtio/status.h"
#include "devices/virtio/testing/fake_driver.h"

namespace msb::devices {
namespace {

using testing::Buffer;
using testing::FakeDriver;
using testing::Layout;
using vmm::Gpa;

constexpr std::uint32_t kReady = kStatusAcknowledge | kStatusDriver | kStatusFeaturesOk | kStatusDriverOk;

class MmioTest : public ::testing::Test {
 protected:
  static bool fill(MutableBytes out) {
    std::fill(out.begin(), out.end(), std::uint8_t{1});
    return true;
  }
  void expect_broken() {
    driver_.kick(0);
    driver_.pump();
    EXPECT_NE(driver_.status() & kStatusNeedsReset, 0u);
    EXPECT_EQ(driver_.get(0x60) & kInterruptConfig, kInterruptConfig);
    // Whatever it was, a reset heals it.
    driver_.reset();
    driver_.start();
    EXPECT_EQ(driver_.run(0, {driver_.writable(8)}).length, 8u);
  }
  std::unique_ptr<EventLoop> loop_ = std::move(EventLoop::create()).value();
  Rng rng_{*loop_, fill};
  FakeDriver driver_{rng_};
};

TEST_F(MmioTest, Identity) {
  EXPECT_EQ(driver_.get(0), 0x74726976u);
  EXPECT_EQ(driver_.get(4), 2u);
  EXPECT_EQ(driver_.get(8), 4u);
  EXPECT_EQ(driver_.get(0xb0), 0xffff'ffffu);
  EXPECT_EQ(driver_.offered(), kFeatureVersion1 | kFeatureEventIdx | kFeatureIndirect);
}

TEST_F(MmioTest, WrongWidthsAndAlignment_AreIgnoredAndCounted) {
  Bytes two(2);
  driver_.transport().read(0, two);
  EXPECT_EQ(two, Bytes(2));
  Bytes eight(8, 0xff);
  driver_.transport().write(0x70, eight);
  driver_.transport().read(2, MutableBytes(eight).first(4));
  EXPECT_EQ(driver_.status(), 0u);
  EXPECT_EQ(driver_.transport().rejected_accesses(), 3u);
}

TEST_F(MmioTest, Status_OutOfOrder_IsIgnored) {
  driver_.set(0x70, kStatusDriver);
  EXPECT_EQ(driver_.status(), 0u);
  driver_.set(0x70, kReady);
  EXPECT_EQ(driver_.status(), 0u);
  driver_.set(0x70, 1);
  driver_.set(0x70, 1 | kStatusFeaturesOk);
  EXPECT_EQ(driver_.status(), 1u);
  driver_.set(0x70, 3);
  driver_.set(0x70, 2);  // takes a bit back
  EXPECT_EQ(driver_.status(), 3u);
  driver_.set(0x70, 3 | kStatusNeedsReset);  // the device's bit
  EXPECT_EQ(driver_.status(), 3u);
  driver_.set(0x70, 3 | kStatusFailed);
  driver_.set(0x70, 3 | kStatusFailed | kStatusFeaturesOk);
  EXPECT_EQ(driver_.status(), 3u | kStatusFailed);
  driver_.reset();
  EXPECT_EQ(driver_.status(), 0u);
}

TEST_F(MmioTest, Features_MustBeOfferedAndModern) {
  driver_.start_with(kFeatureEventIdx);
  EXPECT_EQ(driver_.status() & kStatusFeaturesOk, 0u);
  driver_.reset();
  driver_.start_with(kFeatureVersion1 | 1);
  EXPECT_EQ(driver_.status() & kStatusFeaturesOk, 0u);
  driver_.reset();
  driver_.start_with(kFeatureVersion1);
  EXPECT_EQ(driver_.status(), kReady);
}

TEST_F(MmioTest, QueueConfiguration_IsFrozen) {
  driver_.start();
  const Buffer buffer = driver_.writable(4);
  driver_.set(0x30, 0);
  driver_.set(0x44, 0);
  EXPECT_EQ(driver_.get(0x44), 1u);
  driver_.set(0x38, 2);
  driver_.set(0x80, 0xfff0'0000);
  driver_.set(0xa4, 0xffff'ffff);
  driver_.set(0x20, 0);
  EXPECT_EQ(driver_.transport().rejected_accesses(), 5u);
  EXPECT_EQ(driver_.run(0, {buffer}).length, 4u);
  driver_.reset();
  EXPECT_EQ(driver_.get(0x44), 0u);
}

TEST_F(MmioTest, QueueReady_FreezesBeforeDriverOk) {
  driver_.set(0x70, 1);
  driver_.set(0x70, 3);
  driver_.set(0x24, 1);
  driver_.set(0x20, 1);
  driver_.set(0x70, 11);
  driver_.set(0x30, 0);
  driver_.set(0x38, 3);    // not a power of two
  driver_.set(0x38, 128);  // larger than allowed
  driver_.set(0x38, 16);
  driver_.set(0x44, 1);
  driver_.set(0x38, 8);
  EXPECT_EQ(driver_.transport().rejected_accesses(), 3u);
  driver_.set(0x30, 7);  // no such queue
  EXPECT_EQ(driver_.get(0x34), 0u);
  driver_.set(0x44, 1);
  EXPECT_EQ(driver_.transport().rejected_accesses(), 4u);
}

TEST_F(MmioTest, QueueOutsideRam_NeedsResetAtOnce) {
  for (const std::uint64_t area : {0x80u, 0x90u, 0xa0u}) {
    driver_.reset();
    driver_.set(0x70, 1);
    driver_.set(0x70, 3);
    driver_.set(0x24, 1);
    driver_.set(0x20, 1);
    driver_.set(0x70, 11);
    driver_.set(0x30, 0);
    driver_.set(0x38, 16);
    for (const std::uint64_t other : {0x80u, 0x90u, 0xa0u}) driver_.set(other, 0x10000);
    driver_.set(area, 0xffff'fff0);
    driver_.set(area + 4, 0xffff'ffff);
    driver_.set(0x44, 1);
    driver_.set(0x70, 15);
    driver_.pump();
    EXPECT_EQ(driver_.status(), 15u | kStatusNeedsReset);
    EXPECT_NE(driver_.transport().failure(), nullptr);
  }
}

TEST_F(MmioTest, Interrupt_IsLatchedUntilAcknowledged) {
  driver_.start();
  driver_.run(0, {driver_.writable(4)});
  EXPECT_EQ(driver_.get(0x60), kInterruptQueue);
  driver_.set(0x64, kInterruptQueue);
  EXPECT_EQ(driver_.get(0x60), 0u);
}

TEST_F(MmioTest, EventIdx_SuppressesInterruptsUntilTheEvent) {
  driver_.start();
  driver_.run(0, {driver_.writable(4)});
  const std::uint64_t before = driver_.irq().count();
  driver_.set_used_event(0, 3);
  driver_.run(0, {driver_.writable(4)});
  driver_.run(0, {driver_.writable(4)});
  EXPECT_EQ(driver_.irq().count(), before);
  driver_.run(0, {driver_.writable(4)});
  EXPECT_EQ(driver_.irq().count(), before + 1);
  EXPECT_EQ(driver_.available_event(0), 4u);
}

TEST_F(MmioTest, EventIdx_AcrossTheWrap_LosesNoInterrupt) {
  driver_.start();
  const Buffer buffer = driver_.writable(1);
  for (std::uint32_t i = 0; i < 0x10010; ++i) {
    driver_.set_used_event(0, static_cast<std::uint16_t>(i));
    const std::uint64_t before = driver_.irq().count();
    driver_.add(0, {buffer});
    driver_.kick(0);
    driver_.pump(1);
    ASSERT_EQ(driver_.irq().count(), before + 1) << i;
    ASSERT_EQ(driver_.take_used(0).size(), 1u);
  }
}

TEST_F(MmioTest, NoEventIdx_FlagSuppressesInterrupts) {
  driver_.start(kFeatureEventIdx);
  driver_.run(0, {driver_.writable(4)});
  EXPECT_EQ(driver_.irq().count(), 1u);
}

TEST_F(MmioTest, EmptyDescriptors_AreLegal) {
  driver_.start();
  EXPECT_EQ(driver_.run(0, {Buffer{Gpa{~std::uint64_t{0}}, 0, true}, driver_.writable(3)}).length, 3u);
}

TEST_F(MmioTest, DescriptorLoop_IsBroken) {
  driver_.start();
  driver_.write_descriptor(0, 0, Gpa{0x1000}, 1, 3, 1);
  driver_.write_descriptor(0, 1, Gpa{0x1000}, 1, 3, 0);
  driver_.publish(0, 0);
  expect_broken();
}

TEST_F(MmioTest, DescriptorsOutsideRamOrTable_AreBroken) {
  driver_.start();
  driver_.write_descriptor(0, 0, Gpa{~std::uint64_t{0} - 4}, 16, 2, 0);
  driver_.publish(0, 0);
  expect_broken();
  driver_.write_descriptor(0, 0, Gpa{0x1000}, 1, 3, 64);
  driver_.publish(0, 0);
  expect_broken();
  driver_.publish(0, 64);
  expect_broken();
  driver_.set_available_index(0, 200);
  expect_broken();
}

TEST_F(MmioTest, ReadableAfterWritable_IsBroken) {
  driver_.start();
  driver_.write_descriptor(0, 0, Gpa{0x1000}, 1, 3, 1);
  driver_.write_descriptor(0, 1, Gpa{0x1000}, 1, 0, 0);
  driver_.publish(0, 0);
  expect_broken();
}

TEST_F(MmioTest, FourGigabytesByOverlap_IsBroken) {
  driver_.start();
  const Buffer big{Gpa{16 << 20}, 16 << 20, true};
  // Overlap alone is legal.
  std::vector<Buffer> many(63, big);
  driver_.add(0, many);
  driver_.kick(0);
  driver_.pump();
  EXPECT_EQ(driver_.status(), kReady);
  driver_.reset();
  driver_.start();
  driver_.write_descriptor(0, 0, Gpa{0}, 0xffff'ffff, 3, 1);
  driver_.write_descriptor(0, 1, Gpa{0}, 0xffff'ffff, 2, 0);
  driver_.publish(0, 0);
  expect_broken();
}

TEST_F(MmioTest, IndirectTables_BadOnesAreBroken) {
  struct Case {
    std::uint64_t address;
    std::uint32_t length;
    std::uint16_t flags;
  };
  const Gpa nested = driver_.allocate(16);
  ASSERT_TRUE(driver_.memory().write(Gpa{vmm::to_u64(nested) + 12}, Le16(4)));
  for (const Case& bad :
       {Case{0x1000, 0, 4}, Case{0x1000, 24, 4}, Case{0x1000, 16 * 65, 4}, Case{0x1000, 16, 5},
        Case{~std::uint64_t{15}, 16, 4}, Case{vmm::to_u64(nested), 16, 4}}) {
    driver_.reset();
    driver_.start();
    driver_.write_descriptor(0, 0, Gpa{bad.address}, bad.length, bad.flags, 1);
    driver_.publish(0, 0);
    expect_broken();
  }
}

TEST_F(MmioTest, IndirectNotNegotiated_IsBroken) {
  driver_.start(kFeatureIndirect);
  driver_.add(0, {driver_.writable(4)}, Layout::kIndirect);
  expect_broken();
}

TEST_F(MmioTest, KickFloodAndWrongKicks_AreHarmless) {
  driver_.start();
  for (int i = 0; i < 10'000; ++i) driver_.kick(0);
  driver_.kick(9);
  driver_.pump();
  EXPECT_EQ(driver_.transport().rejected_accesses(), 1u);
  EXPECT_EQ(driver_.run(0, {driver_.writable(4)}).length, 4u);
}

TEST_F(MmioTest, ResetFlood_WithoutTheLoopRunning_LeavesOneTask) {
  for (int i = 0; i < 1000; ++i) {
    driver_.loops_run_elsewhere();  // pump() does nothing meanwhile
    driver_.start(0, 2);
    driver_.reset();
  }
  EXPECT_EQ(driver_.status(), 0u);
}

TEST_F(MmioTest, SaveAndRestore_ContinuesWhereItWas) {
  driver_.start();
  for (int i = 0; i < 3; ++i) driver_.run(0, {driver_.writable(4)});
  driver_.transport().pause();
  const Buffer pending = driver_.writable(5);
  driver_.set_used_event(0, 3);
  driver_.add(0, {pending});
  driver_.kick(0);
  driver_.pump();
  EXPECT_TRUE(driver_.take_used(0).empty());
  const MmioState state = driver_.transport().save();
  Rng fresh(*loop_, fill);
  testing::CountingIrq irq;
  auto transport = std::move(MmioTransport::create(fresh, driver_.memory(), irq)).value();
  ASSERT_TRUE(transport->restore(state).ok());
  driver_.pump();
  EXPECT_TRUE(driver_.take_used(0).empty());
  transport->resume();
  const auto used = driver_.wait_used(0);
  ASSERT_EQ(used.size(), 1u);
  EXPECT_EQ(used[0].length, 5u);
  EXPECT_EQ(irq.count(), 1u);
}

TEST_F(MmioTest, Restore_ForeignStates_AreRefused) {
  driver_.start();
  driver_.transport().pause();
  const MmioState good = driver_.transport().save();
  const auto refused = [this](const MmioState& state) {
    Rng fresh(*loop_, fill);
    testing::CountingIrq irq;
    auto transport = std::move(MmioTransport::create(fresh, driver_.memory(), irq)).value();
    const bool ok = transport->restore(state).ok();
    driver_.pump();  // what was posted must not outlive the transport
    return !ok;
  };
  MmioState bad = good;
  bad.device_type = 2;
  EXPECT_TRUE(refused(bad));
  bad = good;
  bad.queues.clear();
  EXPECT_TRUE(refused(bad));
  bad = good;
  bad.driver_features |= 1;
  EXPECT_TRUE(refused(bad));
  bad = good;
  bad.config.push_back(0);
  EXPECT_TRUE(refused(bad));
  bad = good;
  bad.device.push_back(0);
  EXPECT_TRUE(refused(bad));
}

// vCPU threads on the registers, the loop on its own thread, resets all the time.
TEST_F(MmioTest, RegistersFromSeveralThreads_WithResets) {
  driver_.start();
  driver_.loops_run_elsewhere();
  std::thread device([this] { EXPECT_TRUE(loop_->run().ok()); });
  std::thread other([this] {
    for (int i = 0; i < 5000; ++i) {
      driver_.set(0x50, 0);
      driver_.set(0x64, 3);
      static_cast<void>(driver_.get(0x60));
      static_cast<void>(driver_.get(0x70));
      static_cast<void>(driver_.get(0xfc));
    }
  });
  for (int i = 0; i < 200; ++i) {
    driver_.reset();
    driver_.start(0, 8);
    driver_.add(0, {driver_.writable(16)});
    driver_.kick(0);
    if (i % 3 == 0) driver_.wait_used(0);
  }
  other.join();
  loop_->stop();
  device.join();
}

struct Recorder final : IoHandler {
  void read(std::uint64_t offset, MutableBytes data) override {
    last = offset;
    std::fill(data.begin(), data.end(), std::uint8_t{7});
  }
  void write(std::uint64_t offset, ByteView) override { last = offset; }
  std::uint64_t last = 0;
};

TEST(BusTest, FindsWindowsAndNothingElse) {
  Bus bus;
  Recorder a;
  Recorder b;
  ASSERT_TRUE(bus.add(0x1000, 0x100, a).ok());
  ASSERT_TRUE(bus.add(0xffff'ffff'ffff'ff00, 0x100, b).ok());
  EXPECT_FALSE(bus.add(0x10ff, 1, b).ok());
  EXPECT_FALSE(bus.add(0xf00, 0x101, b).ok());
  EXPECT_FALSE(bus.add(0x5000, 0, b).ok());
  EXPECT_FALSE(bus.add(~std::uint64_t{0}, 2, b).ok());
  Bytes four(4);
  EXPECT_TRUE(bus.read(0x10fc, four));
  EXPECT_EQ(a.last, 0xfcu);
  EXPECT_FALSE(bus.read(0x10fd, four));  // reaches over the end
  EXPECT_EQ(four, Bytes(4, 0xff));
  EXPECT_FALSE(bus.write(0x1100, four));
  EXPECT_FALSE(bus.write(0xfff, four));
  EXPECT_TRUE(bus.write(0xffff'ffff'ffff'fffc, four));
  EXPECT_EQ(b.last, 0xfcu);
  EXPECT_EQ(bus.unclaimed(), 3u);
}

}  // namespace
}  // namespace msb::devices
