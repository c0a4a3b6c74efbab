// SPDX-License-Identifier: Apache-2.0
// The transport and the ring: a guest that does what it likes, then a saved state with any values in it.
#include "devices/virtio/mmio.h"

#include <algorithm>

#include "base/check.h"
#include "devices/virtio/testing/fuzz_guest.h"

namespace {
using namespace msb;
using namespace msb::devices;

// Copies what it can read to where it may write: touches every byte that a chain promises.
class Copier final : public Device {
 public:
  explicit Copier(EventLoop& loop) : Device(Bytes(24, 7)), loop_(loop) {}
  DeviceType type() const override { return DeviceType::kEntropy; }
  std::uint64_t features() const override { return 0xff; }
  std::span<const std::uint16_t> queue_sizes() const override { return kQueueSizes; }
  ConfigWindow writable_config() const override { return {4, 20}; }
  EventLoop& loop() override { return loop_; }
  void activate(std::shared_ptr<DriverSession>) override {}
  void reset() override {}
  void config_written(std::uint32_t offset, ByteView bytes) override {
    MSB_CHECK(offset >= 4 && bytes.size() <= 20 - offset);
    config_space().update(offset, bytes);
  }
  void process(DriverSession& session, std::uint16_t index) override {
    Queue* const queue = session.queue(index);
    if (queue == nullptr || session.failed()) return;
    for (int budget = 64; budget > 0; --budget) {
      const Queue::Pop pop = queue->pop(chain_);
      if (pop == Queue::Pop::kBroken) return session.fail(queue->broken_reason());
      if (pop == Queue::Pop::kEmpty) break;
      auto reader = chain_.reader();
      auto writer = chain_.writer();
      const auto length = std::min({chain_.readable_bytes, chain_.writable_bytes, kMost});
      Bytes bytes(length);
      MSB_CHECK(reader.read(bytes) && writer.write(bytes));
      queue->push_used(chain_.head, length);
    }
    session.signal_used(index);
    if (queue->enable_kicks()) session.kick_again(index);
  }

 private:
  static constexpr std::uint32_t kMost = 64 * 1024;
  static constexpr std::array<std::uint16_t, 3> kQueueSizes{256, 16, 1024};
  EventLoop& loop_;
  Chain chain_;
};

// A state as if saved by a machine that someone else controls.
MmioState state_from(ByteReader& reader) {
  const auto u8 = [&] { return reader.take_u8().value_or(0); };
  const auto u64 = [&] {
    const auto value = reader.take<Le64>();
    return value ? value->get() : u8();
  };
  MmioState state;
  state.device_type = 4u ^ (u8() == 1 ? 1u : 0u);
  state.status = u8();
  state.interrupt_status = u8();
  state.queue_select = u8();
  state.driver_features = u64();
  state.queues.resize(u8() % 8 == 7 ? 2 : 3);
  for (auto& queue : state.queues) {
    const std::uint8_t kind = u8();
    queue.ready = (kind & 1) != 0;
    queue.config.size = static_cast<std::uint16_t>((kind & 2) != 0 ? u64() : 16);
    queue.config.descriptors = vmm::Gpa{(kind & 4) != 0 ? u64() : 0x1000};
    queue.config.available = vmm::Gpa{(kind & 8) != 0 ? u64() : 0x2000};
    queue.config.used = vmm::Gpa{(kind & 16) != 0 ? u64() : 0x3000};
    queue.cursors.next_available = static_cast<std::uint16_t>(u64());
    queue.cursors.next_used = static_cast<std::uint16_t>(u64());
    queue.cursors.signalled_valid = (kind & 32) != 0;
    queue.cursors.broken = (kind & 64) != 0;
  }
  state.config.assign(u8() % 4 == 3 ? 5 : 24, u8());
  if (u8() == 0xff) state.device.push_back(1);
  return state;
}
}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const ByteView input(data + 1, size - 1);
  auto loop = EventLoop::create();
  MSB_CHECK(loop.ok());
  Copier device(**loop);
  if ((data[0] & 1) == 0) {
    devices::testing::run_hostile_guest(device, input);
    return 0;
  }
  devices::testing::FakeDriver driver(device, 1 << 20);
  ByteReader reader(input);
  const MmioState state = state_from(reader);
  static_cast<void>(driver.memory().write(vmm::Gpa{0x1000},
                                          *reader.take(std::min<std::size_t>(reader.remaining(), 0x4000))));
  const Status restored = driver.transport().restore(state);
  if (restored.ok()) {
    driver.transport().resume();
    for (std::uint16_t queue = 0; queue < 3; ++queue) driver.kick(queue);
    driver.pump();
  }
  driver.reset();
  driver.pump(2);
  driver.start(0, 16);
  MSB_CHECK((driver.status() & 0x40) == 0);
  driver.reset();
  driver.pump(2);
  return 0;
}
