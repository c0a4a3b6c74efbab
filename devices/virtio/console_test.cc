// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/console.h"

#include <gtest/gtest.h>

#include "devices/virtio/status.h"
#include "devices/virtio/testing/fake_driver.h"

namespace msb::devices {
namespace {

using testing::Buffer;
using testing::FakeDriver;

class TextSink final : public ConsoleSink {
 public:
  void write(ByteView bytes) override { text += as_text(bytes); }
  std::string text;
};

class ConsoleTest : public ::testing::Test {
 protected:
  std::unique_ptr<EventLoop> loop_ = std::move(EventLoop::create()).value();
  TextSink sink_;
  Console console_{*loop_, sink_};
  FakeDriver driver_{console_};
};

TEST_F(ConsoleTest, Output_ReachesTheSinkInOrder) {
  driver_.start();
  driver_.add(1, {driver_.readable("kernel "), driver_.readable("panic")});
  driver_.add(1, {driver_.readable("\n")});
  driver_.kick(1);
  EXPECT_EQ(driver_.wait_used(1, 2).size(), 2u);
  EXPECT_EQ(sink_.text, "kernel panic\n");
}

TEST_F(ConsoleTest, HugeOverlappingOutput_IsBoundedPerCall) {
  driver_.start();
  const Buffer big = driver_.readable(Bytes(1 << 20, 'x'));
  driver_.add(1, {big, big, big, big, big, big, big, big});
  driver_.kick(1);
  EXPECT_EQ(driver_.wait_used(1).size(), 1u);
  EXPECT_EQ(sink_.text.size(), 256u * 1024);
}

TEST_F(ConsoleTest, EmergencyWrite_WorksBeforeTheQueues) {
  driver_.set(0x70, 1);
  driver_.set(0x70, 3);
  driver_.set(0x108, 'P');
  driver_.pump();
  driver_.set(0x108, '!');
  driver_.set(0x104, 'x');
  driver_.pump();
  EXPECT_EQ(sink_.text, "P!");
  EXPECT_EQ(driver_.transport().rejected_accesses(), 1u);
}

TEST_F(ConsoleTest, EmergencyFlood_IsBoundedAndCounted) {
  driver_.set(0x70, 1);
  driver_.set(0x70, 3);
  for (int i = 0; i < 1000; ++i) driver_.set(0x108, 'P');
  driver_.pump();
  EXPECT_EQ(sink_.text.size() + driver_.transport().rejected_accesses(), 1000u);
  EXPECT_LT(sink_.text.size(), 100u);
}

TEST_F(ConsoleTest, Input_WaitsForBuffersAndIsBounded) {
  EXPECT_EQ(console_.send_input(as_bytes("ls\n")), 3u);
  driver_.start();
  const Buffer first = driver_.writable(2);
  const Buffer second = driver_.writable(16);
  driver_.add(0, {first});
  driver_.kick(0);
  EXPECT_EQ(driver_.wait_used(0).at(0).length, 2u);
  driver_.add(0, {second});
  driver_.kick(0);
  EXPECT_EQ(driver_.wait_used(0).at(0).length, 1u);
  EXPECT_EQ(as_text(driver_.bytes(first)), "ls");
  EXPECT_EQ(console_.send_input(Bytes(100'000)), Console::kMaxInput);
  EXPECT_EQ(console_.send_input(Bytes(1)), 0u);
}

TEST_F(ConsoleTest, Reset_ThenOutputAgain) {
  driver_.start();
  driver_.reset();
  driver_.start();
  driver_.run(1, {driver_.readable("again")});
  EXPECT_EQ(sink_.text, "again");
}

}  // namespace
}  // namespace msb::devices
