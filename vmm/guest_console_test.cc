// SPDX-License-Identifier: Apache-2.0
#include "vmm/guest_console.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include "base/file.h"
#include "vmm/ports.h"

namespace msb::vmm {
namespace {

using proto::ExitReason;

std::optional<ExitReason> scan(std::string_view text) {
  FarewellScanner scanner;
  return scanner.feed(as_bytes(text));
}

TEST(FarewellScanner, KnownLines) {
  EXPECT_EQ(scan("[    0.5] Kernel panic - not syncing: Fatal exception\n"), ExitReason::kGuestPanic);
  EXPECT_EQ(scan("Kernel panic - not syncing: Out of memory: compulsory\r\n"), ExitReason::kGuestOom);
  EXPECT_EQ(scan("Kernel panic - not syncing: System is deadlocked on memory\n"), ExitReason::kGuestOom);
  EXPECT_EQ(scan("[    9.1][    T1] reboot: Power off not available: System halted instead\n"),
            ExitReason::kPoweroff);
  EXPECT_EQ(scan("reboot: System halted\n"), ExitReason::kPoweroff);
}

TEST(FarewellScanner, OtherText_Nothing) {
  EXPECT_EQ(scan("hello\n"), std::nullopt);
  EXPECT_EQ(scan("they said Kernel panic - not syncing\n"), std::nullopt);
  EXPECT_EQ(scan("Kernel panic - not syncing: no end of line"), std::nullopt);
  EXPECT_EQ(scan(std::string(1 << 20, '[') + "\n"), std::nullopt);
}

TEST(FarewellScanner, ByteByByte_SameAnswer) {
  FarewellScanner scanner;
  std::optional<ExitReason> reason;
  for (const char c : std::string_view("x\n[1.0] Kernel panic - not syncing: y\n")) {
    const auto byte = static_cast<std::uint8_t>(c);
    if (const auto r = scanner.feed(ByteView(&byte, 1))) reason = r;
  }
  EXPECT_EQ(reason, ExitReason::kGuestPanic);
  EXPECT_EQ(scanner.line(), "Kernel panic - not syncing: y");
}

TEST(GuestConsole, BoundedFile_KeepsTheNewest) {
  UniqueFd file(::memfd_create("console", MFD_CLOEXEC));
  const UniqueFd reader(::dup(file.get()));
  GuestConsole console(std::move(file), 8192, {});
  for (int i = 0; i < 5000; ++i) {
    const std::string line = "line " + std::to_string(i) + "\n";
    console.write(as_bytes(line));
  }
  ::lseek(reader.get(), 0, SEEK_SET);
  const auto text = read_all(reader.get(), 1 << 20);
  ASSERT_TRUE(text);
  EXPECT_LE(text->size(), 8192U);
  EXPECT_TRUE(text->ends_with("line 4998\nline 4999\n"));
}

TEST(GuestConsole, Farewell_ToldOnce) {
  int told = 0;
  GuestConsole console(UniqueFd(), 8192, [&](ExitReason, const std::string&) { ++told; });
  for (int i = 0; i < 3; ++i) console.write(as_bytes("reboot: System halted\n"));
  EXPECT_EQ(told, 1);
}

TEST(EarlyConsole, DivisorIsNotText) {
  int told = 0;
  GuestConsole console(UniqueFd(), 8192, [&](ExitReason, const std::string&) { ++told; });
  EarlyConsole port(console);
  const auto out = [&](std::uint64_t offset, std::uint8_t value) { port.write(offset, ByteView(&value, 1)); };
  out(3, 0x83);  // as a kernel sets the speed
  out(0, 0x01);
  out(1, 0x00);
  out(3, 0x03);
  for (const char c : std::string_view("reboot: System halted\r\n")) out(0, static_cast<std::uint8_t>(c));
  EXPECT_EQ(told, 1);
}

TEST(ResetPort, OnlyTheRightValues) {
  int resets = 0;
  ResetPort keyboard(ResetPort::Kind::kKeyboard, [&] { ++resets; });
  const std::uint8_t other[] = {0xfe, 0xd1};
  keyboard.write(0, ByteView(&other[1], 1));
  keyboard.write(0, ByteView(other, 2));
  EXPECT_EQ(resets, 0);
  keyboard.write(0, ByteView(other, 1));
  EXPECT_EQ(resets, 1);
  ResetPort control(ResetPort::Kind::kControl, [&] { ++resets; });
  const std::uint8_t values[] = {0x02, 0x06};
  control.write(0, ByteView(values, 1));
  EXPECT_EQ(resets, 1);
  control.write(0, ByteView(&values[1], 1));
  EXPECT_EQ(resets, 2);
}

}  // namespace
}  // namespace msb::vmm
