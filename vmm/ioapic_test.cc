// SPDX-License-Identifier: Apache-2.0
#include "vmm/arch/x86_64/ioapic.h"

#include <gtest/gtest.h>

#include <random>

namespace msb::vmm {
namespace {

constexpr std::uint32_t kPins = 10;

class Recorder final : public PinObserver {
 public:
  void pin_changed(std::uint32_t pin, const PinState& state) override {
    pins[pin] = state;
    ++changes;
  }
  std::array<PinState, kMaxIoapicPins> pins{};
  int changes = 0;
};

class IoapicTest : public ::testing::Test {
 protected:
  void write(std::uint64_t offset, std::uint32_t value) {
    const Le32 raw{value};
    ioapic.write(offset, ByteView(reinterpret_cast<const std::uint8_t*>(&raw), 4));
  }
  std::uint32_t read(std::uint64_t offset) {
    Le32 raw;
    ioapic.read(offset, MutableBytes(reinterpret_cast<std::uint8_t*>(&raw), 4));
    return raw.get();
  }
  void write_register(std::uint8_t index, std::uint32_t value) {
    write(0, index);
    write(0x10, value);
  }
  std::uint32_t read_register(std::uint8_t index) {
    write(0, index);
    return read(0x10);
  }
  Recorder recorder;
  Ioapic ioapic{recorder, kPins};
};

TEST_F(IoapicTest, Version_TellsPins) { EXPECT_EQ(read_register(1), 0x00090011U); }

TEST_F(IoapicTest, Reset_AllMasked) {
  for (std::uint8_t pin = 0; pin < kPins; ++pin) {
    EXPECT_EQ(read_register(static_cast<std::uint8_t>(0x10 + 2 * pin)), 0x10000U);
  }
}

TEST_F(IoapicTest, PinsThatAreNotThere_ReadZeroAndTakeNothing) {
  write_register(0x10 + 2 * kPins, 0x0041);
  EXPECT_EQ(read_register(0x10 + 2 * kPins), 0U);
  EXPECT_EQ(recorder.changes, 0);
}

TEST_F(IoapicTest, Unmask_GivesTheMsi) {
  write_register(0x10 + 2 * 5 + 1, 3U << 24);
  write_register(0x10 + 2 * 5, 0x0041);
  EXPECT_FALSE(recorder.pins[5].masked);
  EXPECT_EQ(recorder.pins[5].msi.address, 0xfee03000U);
  EXPECT_EQ(recorder.pins[5].msi.data, 0x41U);
}

TEST_F(IoapicTest, SameValueAgain_TellsNobody) {
  write_register(0x10, 0x0041);
  const int before = recorder.changes;
  write_register(0x10, 0x0041);
  EXPECT_EQ(recorder.changes, before);
}

TEST_F(IoapicTest, ReadOnlyBits_StayZero) {
  write_register(0x10, 0xffffffff);
  EXPECT_EQ(read_register(0x10) & ((1U << 12) | (1U << 14)), 0U);
}

TEST_F(IoapicTest, OddWidths_Ignored) {
  const std::uint8_t bytes[8] = {0x10, 0, 0, 0, 0, 0, 0, 0};
  for (const std::size_t length : {1U, 2U, 8U}) ioapic.write(0, ByteView(bytes, length));
  EXPECT_EQ(read(0), 0U);
}

TEST_F(IoapicTest, SaveRestore_TellsEveryPin) {
  write_register(0x10 + 2 * 7, 0x0055);
  const IoapicState state = ioapic.save();
  Recorder other_recorder;
  Ioapic other(other_recorder, kPins);
  other.restore(state);
  EXPECT_EQ(other_recorder.changes, static_cast<int>(kPins));
  EXPECT_FALSE(other_recorder.pins[7].masked);
  EXPECT_EQ(other.save().redirection, state.redirection);
}

TEST_F(IoapicTest, RandomAccesses_NoCrash) {
  std::mt19937 random(1);
  std::array<std::uint8_t, 8> data{};
  for (int i = 0; i < 100'000; ++i) {
    for (auto& byte : data) byte = static_cast<std::uint8_t>(random());
    const std::size_t length = std::size_t{1} << (random() % 4);
    const std::uint64_t offset = random() % 3 == 0 ? random() % 0x1000 : (random() % 2) * 0x10;
    if ((random() & 1) != 0) {
      ioapic.write(offset, ByteView(data).first(length));
    } else {
      ioapic.read(offset, MutableBytes(data).first(length));
    }
  }
}

}  // namespace
}  // namespace msb::vmm
