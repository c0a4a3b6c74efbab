// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/testing/fuzz_guest.h"

#include <algorithm>

#include "base/check.h"
#include "devices/virtio/status.h"

namespace msb::devices::testing {
namespace {
constexpr std::uint64_t kMemoryBytes = 1 << 20;
constexpr std::uint16_t kQueueSize = 16;
constexpr std::uint64_t kData = 0xc0000;  // where chains point; above what start() allocates
constexpr std::uint64_t kDataBytes = 0x20000;
constexpr int kMaxActions = 200;
constexpr int kMaxStarts = 16;

class Program {
 public:
  explicit Program(ByteView input) : reader_(input) {}
  [[nodiscard]] bool empty() const { return reader_.empty(); }
  std::uint8_t u8() { return reader_.take_u8().value_or(0); }
  std::uint16_t u16() {
    const auto value = reader_.take<Le16>();
    return value ? value->get() : u8();
  }
  std::uint32_t u32() {
    const auto value = reader_.take<Le32>();
    return value ? value->get() : u16();
  }
  ByteView bytes(std::size_t most) { return *reader_.take(std::min(most, reader_.remaining())); }

 private:
  ByteReader reader_;
};

void add_chain(FakeDriver& driver, Program& program, std::uint16_t queues) {
  const auto queue = static_cast<std::uint16_t>(program.u8() % queues);
  const std::uint8_t shape = program.u8();
  const int count = 1 + shape % 4;
  std::uint64_t at = kData + program.u16();
  // Payload where the first descriptor points, so that headers can be well-formed.
  const ByteView content = program.bytes(program.u8());
  static_cast<void>(driver.memory().write(vmm::Gpa{at}, content));
  std::uint16_t slot = static_cast<std::uint16_t>(program.u8() % kQueueSize);
  const std::uint16_t head = slot;
  for (int i = 0; i < count; ++i) {
    const std::uint8_t kind = program.u8();
    std::uint32_t length = (kind & 0x40) != 0 ? program.u32() : program.u16();
    if ((kind & 0x80) == 0) length = i == 0 ? static_cast<std::uint32_t>(content.size()) : length % 5000;
    auto flags = static_cast<std::uint16_t>(kind & 6);
    if ((kind & 0x30) != 0x30) flags &= 2;  // indirect only now and then
    const auto next = static_cast<std::uint16_t>((kind & 8) != 0 ? program.u8() : (slot + 1) % kQueueSize);
    if (i + 1 < count) flags |= 1;
    driver.write_descriptor(queue, slot, vmm::Gpa{at}, length, flags, next);
    at += std::min<std::uint64_t>(length, kDataBytes / 8);
    slot = static_cast<std::uint16_t>(next % kQueueSize);
  }
  driver.publish(queue, head);
  if ((shape & 0x80) != 0) driver.kick(queue);
}
}  // namespace

void run_hostile_guest(Device& device, ByteView input, const std::function<void(ByteView)>& host) {
  FakeDriver driver(device, kMemoryBytes);
  Program program(input);
  const auto queues = driver.transport().queue_count();
  const std::uint8_t without = program.u8();
  const auto restart = [&](std::uint8_t mask) {
    driver.reset();
    // Each bit of the mask takes away a group of feature bits.
    std::uint64_t missing = 0;
    for (unsigned bit = 0; bit < 8; ++bit) {
      if ((mask >> bit & 1) != 0)
        missing |= 0x0000'0000'0101'0101u << bit | std::uint64_t{bit < 2} << (28 + bit);
    }
    driver.start(missing, kQueueSize);
  };
  restart(without);
  int starts = 1;
  for (int action = 0; action < kMaxActions && !program.empty(); ++action) {
    switch (program.u8() % 12) {
      case 0: {
        const std::uint16_t offset = program.u16() % kMmioWindowSize;
        const ByteView data = program.bytes(1 + program.u8() % 8);
        if (!data.empty() && data.size() <= kMmioWindowSize - offset) driver.transport().write(offset, data);
        break;
      }
      case 1: {
        Bytes data(1 + program.u8() % 8u);
        const std::uint64_t offset = program.u16() % (kMmioWindowSize - 8);
        driver.transport().read(offset, data);
        break;
      }
      case 2:
        static_cast<void>(driver.memory().write(vmm::Gpa{program.u32() % kMemoryBytes}, program.bytes(64)));
        break;
      case 3:
      case 4:
      case 5:
      case 6:
        add_chain(driver, program, queues);
        break;
      case 7:
        driver.kick(static_cast<std::uint16_t>(program.u8() % queues));
        break;
      case 8:
        driver.pump(2);
        break;
      case 9:
        if (++starts <= kMaxStarts) restart(program.u8());
        break;
      case 10:
        driver.transport().pause();
        driver.pump(1);
        static_cast<void>(driver.transport().save());
        driver.transport().resume();
        break;
      case 11:
        if (host) host(program.bytes(program.u8()));
        break;
      default:
        break;
    }
  }
  driver.pump();
  driver.reset();
  driver.pump(2);
  driver.start(0, kQueueSize);
  MSB_CHECK((driver.status() & kStatusNeedsReset) == 0);
  MSB_CHECK((driver.status() & kStatusDriverOk) != 0);
  driver.reset();
  driver.pump(2);
}

}  // namespace msb::devices::testing
