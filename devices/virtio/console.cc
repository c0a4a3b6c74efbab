// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/console.h"

#include <algorithm>

#include "base/check.h"

namespace msb::devices {
namespace {
constexpr std::uint64_t kEmergencyWrite = std::uint64_t{1} << 2;
// 5.3.4: u16 cols, u16 rows, u32 max_nr_ports, u32 emerg_wr
constexpr std::size_t kConfigBytes = 12;
constexpr std::uint32_t kEmergencyOffset = 8;
constexpr std::uint64_t kOutputBytesPerCall = 256 * 1024;
constexpr int kBuffersPerCall = 64;
constexpr std::size_t kStep = 4096;
}  // namespace

Console::Console(EventLoop& loop, ConsoleSink& sink)
    : Device(Bytes(kConfigBytes)), loop_(loop), sink_(sink) {}

std::uint64_t Console::features() const { return kEmergencyWrite; }
Device::ConfigWindow Console::writable_config() const { return {kEmergencyOffset, kConfigBytes}; }

void Console::config_written(std::uint32_t offset, ByteView bytes) {
  if (offset == kEmergencyOffset && !bytes.empty()) sink_.write(bytes.first(1));
}

void Console::process(DriverSession& session, std::uint16_t queue) {
  if (session.queue(queue) == nullptr || session.failed()) return;
  if (queue == kTransmit) process_output(session);
  if (queue == kReceive) process_input(session);
}

void Console::process_output(DriverSession& session) {
  Queue* queue = session.queue(kTransmit);
  std::uint64_t budget = kOutputBytesPerCall;
  bool used = false;
  for (int done = 0;; ++done) {
    const Queue::Pop pop = queue->pop(chain_);
    if (pop == Queue::Pop::kBroken) return session.fail(queue->broken_reason());
    if (pop == Queue::Pop::kEmpty) {
      if (queue->enable_kicks()) continue;
      break;
    }
    if (done >= kBuffersPerCall || budget == 0) {
      queue->undo_pop();
      session.kick_again(kTransmit);
      break;
    }
    // What a single buffer has beyond the budget is dropped: no console writes that much at once.
    vmm::RangeReader reader = chain_.reader();
    std::array<std::uint8_t, kStep> piece;
    while (budget > 0 && reader.remaining() > 0) {
      const auto length =
          static_cast<std::size_t>(std::min<std::uint64_t>({kStep, budget, reader.remaining()}));
      MSB_CHECK(reader.read(MutableBytes(piece).first(length)));
      sink_.write(ByteView(piece).first(length));
      budget -= length;
    }
    queue->push_used(chain_.head, 0);
    used = true;
  }
  if (used) session.signal_used(kTransmit);
}

void Console::process_input(DriverSession& session) {
  Queue* queue = session.queue(kReceive);
  bool used = false;
  while (!input_.empty()) {  // each round takes at least one byte
    const Queue::Pop pop = queue->pop(chain_);
    if (pop == Queue::Pop::kBroken) return session.fail(queue->broken_reason());
    if (pop == Queue::Pop::kEmpty) {
      if (queue->enable_kicks()) continue;
      break;
    }
    if (chain_.writable_bytes == 0) return session.fail("console input buffer is not writable");
    const std::size_t length = std::min<std::size_t>(chain_.writable_bytes, input_.size());
    vmm::RangeWriter writer = chain_.writer();
    MSB_CHECK(writer.write(ByteView(input_).first(length)));
    input_.erase(input_.begin(), input_.begin() + static_cast<std::ptrdiff_t>(length));
    queue->push_used(chain_.head, static_cast<std::uint32_t>(length));
    used = true;
  }
  if (used) session.signal_used(kReceive);
}

std::size_t Console::send_input(ByteView bytes) {
  const std::size_t length = std::min(bytes.size(), kMaxInput - input_.size());
  input_.insert(input_.end(), bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(length));
  const std::shared_ptr<DriverSession> session = session_;
  if (session == nullptr) return length;
  if (const auto lease = session->enter()) process(*session, kReceive);
  return length;
}

}  // namespace msb::devices
