// SPDX-License-Identifier: Apache-2.0
// FakeDriver: the driver's half of a virtio device for unit tests, fuzzers and benchmarks. It owns guest
// memory, the transport and a counting interrupt line, and drives the device through its registers only.
#pragma once

#include <atomic>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <string_view>
#include <vector>

#include "devices/virtio/mmio.h"

namespace msb::devices::testing {

class CountingIrq final : public IrqLine {
 public:
  void trigger() override { count_.fetch_add(1, std::memory_order_acq_rel); }
  [[nodiscard]] std::uint64_t count() const { return count_.load(std::memory_order_acquire); }

 private:
  std::atomic<std::uint64_t> count_{0};
};

struct Buffer {
  vmm::Gpa address{};
  std::uint32_t length = 0;
  bool device_writes = false;
};
struct Used {
  std::uint32_t head = 0;
  std::uint32_t length = 0;
  friend bool operator==(const Used&, const Used&) = default;
};
enum class Layout : std::uint8_t { kDirect, kIndirect };

class FakeDriver {
 public:
  static constexpr std::uint64_t kMemory = 32 << 20;
  // `device` is borrowed.
  explicit FakeDriver(Device& device, std::uint64_t memory_bytes = kMemory);

  // Registers.
  [[nodiscard]] std::uint32_t get(std::uint64_t offset);
  void set(std::uint64_t offset, std::uint32_t value);
  [[nodiscard]] std::uint32_t status() { return get(0x70); }
  [[nodiscard]] Bytes config(std::uint64_t offset, std::size_t length);
  [[nodiscard]] std::uint64_t offered();

  // The initialisation of 3.1.1 with every offered feature but `without`, all queues at their largest size
  // (or `queue_size` if not 0), up to DRIVER_OK; then pump().
  void start(std::uint64_t without = 0, std::uint16_t queue_size = 0);
  void start_with(std::uint64_t features, std::uint16_t queue_size = 0);
  void reset();

  // From now on other threads run the device's loops; pump() only lets them.
  void loops_run_elsewhere() { threaded_ = true; }
  // Lets the device's loops run until they are likely idle.
  void pump(int rounds = 8);
  // Pumps until `count` more buffers of `queue` are used (bounded), and returns those.
  std::vector<Used> wait_used(std::uint16_t queue, std::size_t count = 1);
  // What was used since the last call.
  std::vector<Used> take_used(std::uint16_t queue);

  // Guest memory, handed out upwards.
  [[nodiscard]] vmm::Gpa allocate(std::uint64_t bytes, std::uint64_t alignment = 16);
  [[nodiscard]] Buffer readable(ByteView bytes);
  [[nodiscard]] Buffer readable(std::string_view text) { return readable(as_bytes(text)); }
  [[nodiscard]] Buffer writable(std::uint32_t length);
  [[nodiscard]] Bytes bytes(vmm::Gpa address, std::size_t length);
  [[nodiscard]] Bytes bytes(const Buffer& buffer) { return bytes(buffer.address, buffer.length); }

  // Makes a chain available without kicking; returns its head.
  std::uint16_t add(std::uint16_t queue, const std::vector<Buffer>& buffers, Layout layout = Layout::kDirect);
  void kick(std::uint16_t queue) { set(kMmioQueueNotify, queue); }
  // add, kick, wait for that one.
  Used run(std::uint16_t queue, const std::vector<Buffer>& buffers, Layout layout = Layout::kDirect);

  // Ring internals, for tests that break them.
  void write_descriptor(std::uint16_t queue, std::uint16_t index, vmm::Gpa address, std::uint32_t length,
                        std::uint16_t flags, std::uint16_t next);
  void publish(std::uint16_t queue, std::uint16_t head);
  void set_available_index(std::uint16_t queue, std::uint16_t value);
  void set_used_event(std::uint16_t queue, std::uint16_t value);
  [[nodiscard]] std::uint16_t available_event(std::uint16_t queue);
  [[nodiscard]] std::uint16_t used_index(std::uint16_t queue);

  [[nodiscard]] vmm::GuestMemory& memory() { return *memory_; }
  [[nodiscard]] MmioTransport& transport() { return *transport_; }
  [[nodiscard]] CountingIrq& irq() { return irq_; }

 private:
  struct Ring {
    QueueConfig config;
    std::vector<std::uint16_t> free;
    std::vector<std::uint16_t> chain_length;  // by head
    std::vector<std::uint16_t> next;
    std::uint16_t available = 0;
    std::uint16_t used = 0;
  };
  Device& device_;
  CountingIrq irq_;
  std::unique_ptr<vmm::GuestMemory> memory_;
  std::unique_ptr<MmioTransport> transport_;
  std::vector<Ring> rings_;
  std::uint64_t brk_ = 0x1000;
  bool threaded_ = false;
};

}  // namespace msb::devices::testing
