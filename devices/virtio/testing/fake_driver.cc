// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/testing/fake_driver.h"

#include <cstring>
#include <thread>
#include <utility>

#include "base/check.h"
#include "devices/virtio/status.h"

namespace msb::devices::testing {
namespace {
using vmm::Gpa;
Gpa at(Gpa base, std::uint64_t offset) { return Gpa{vmm::to_u64(base) + offset}; }
struct Descriptor {
  Le64 address;
  Le32 length;
  Le16 flags;
  Le16 next;
};
constexpr std::uint16_t kNext = 1;
constexpr std::uint16_t kWrite = 2;
constexpr std::uint16_t kIndirect = 4;
}  // namespace

FakeDriver::FakeDriver(Device& device, std::uint64_t memory_bytes) : device_(device) {
  auto memory = vmm::GuestMemory::create(memory_bytes);
  MSB_CHECK(memory.ok());
  memory_ = std::move(memory).value();
  auto transport = MmioTransport::create(device, *memory_, irq_);
  MSB_CHECK(transport.ok());
  transport_ = std::move(transport).value();
  rings_.resize(transport_->queue_count());
}

std::uint32_t FakeDriver::get(std::uint64_t offset) {
  Le32 value;
  transport_->read(offset, MutableBytes(reinterpret_cast<std::uint8_t*>(&value), sizeof value));
  return value.get();
}
void FakeDriver::set(std::uint64_t offset, std::uint32_t value) {
  const Le32 wire(value);
  transport_->write(offset, ByteView(reinterpret_cast<const std::uint8_t*>(&wire), sizeof wire));
}
Bytes FakeDriver::config(std::uint64_t offset, std::size_t length) {
  Bytes out(length);
  transport_->read(0x100 + offset, out);
  return out;
}
std::uint64_t FakeDriver::offered() {
  set(0x14, 1);
  const std::uint64_t high = get(0x10);
  set(0x14, 0);
  return high << 32 | get(0x10);
}

void FakeDriver::start(std::uint64_t without, std::uint16_t queue_size) {
  start_with(offered() & ~without, queue_size);
}

void FakeDriver::start_with(std::uint64_t features, std::uint16_t queue_size) {
  set(0x70, kStatusAcknowledge);
  set(0x70, kStatusAcknowledge | kStatusDriver);
  for (std::uint32_t half = 0; half < 2; ++half) {
    set(0x24, half);
    set(0x20, static_cast<std::uint32_t>(features >> (32 * half)));
  }
  set(0x70, kStatusAcknowledge | kStatusDriver | kStatusFeaturesOk);
  const auto rings = static_cast<std::uint16_t>(rings_.size());
  for (std::uint16_t i = 0; i < rings; ++i) {
    set(0x30, i);
    Ring& ring = rings_[i];
    ring = Ring{};
    ring.config.size = queue_size != 0 ? queue_size : static_cast<std::uint16_t>(get(0x34));
    const std::uint64_t size = ring.config.size;
    ring.config.descriptors = allocate(16 * size, 4096);
    ring.config.available = allocate(6 + 2 * size, 2);
    ring.config.used = allocate(6 + 8 * size, 4);
    MSB_CHECK(memory_->zero(ring.config.available, 6 + 2 * size) &&
              memory_->zero(ring.config.used, 6 + 8 * size));
    for (std::uint16_t d = ring.config.size; d > 0; --d)
      ring.free.push_back(static_cast<std::uint16_t>(d - 1));
    ring.chain_length.resize(size);
    ring.next.resize(size);
    set(0x38, ring.config.size);
    const std::pair<std::uint64_t, Gpa> areas[] = {
        {0x80, ring.config.descriptors}, {0x90, ring.config.available}, {0xa0, ring.config.used}};
    for (const auto& [offset, address] : areas) {
      set(offset, static_cast<std::uint32_t>(vmm::to_u64(address)));
      set(offset + 4, static_cast<std::uint32_t>(vmm::to_u64(address) >> 32));
    }
    set(0x44, 1);
  }
  set(0x70, kStatusAcknowledge | kStatusDriver | kStatusFeaturesOk | kStatusDriverOk);
  pump();
}

void FakeDriver::reset() { set(0x70, 0); }

void FakeDriver::pump(int rounds) {
  if (threaded_) {
    std::this_thread::yield();
    return;
  }
  const auto rings = static_cast<std::uint16_t>(rings_.size());
  for (int i = 0; i < rounds; ++i) {
    MSB_CHECK(device_.loop().run_once(Duration{0}).ok());
    for (std::uint16_t q = 0; q < rings; ++q) {
      if (&device_.queue_loop(q) != &device_.loop())
        MSB_CHECK(device_.queue_loop(q).run_once(Duration{0}).ok());
    }
  }
}

std::vector<Used> FakeDriver::wait_used(std::uint16_t queue, std::size_t count) {
  std::vector<Used> all;
  for (int round = 0; round < (threaded_ ? 10'000'000 : 20'000) && all.size() < count; ++round) {
    const auto more = take_used(queue);
    all.insert(all.end(), more.begin(), more.end());
    if (all.size() < count) pump(1);
  }
  return all;
}

std::vector<Used> FakeDriver::take_used(std::uint16_t queue) {
  Ring& ring = rings_[queue];
  std::vector<Used> out;
  const std::uint16_t index = used_index(queue);
  while (ring.used != index && out.size() <= ring.config.size) {
    const Gpa slot =
        at(ring.config.used, 4 + 8 * std::uint64_t{static_cast<std::uint16_t>(ring.used % ring.config.size)});
    const auto id = memory_->read<Le32>(slot);
    const auto length = memory_->read<Le32>(at(slot, 4));
    out.push_back({id->get(), length->get()});
    ++ring.used;
    auto d = static_cast<std::uint16_t>(id->get());
    for (std::uint16_t n = ring.chain_length[d]; n > 0; --n) {
      ring.free.push_back(d);
      d = ring.next[d];
    }
  }
  return out;
}

Gpa FakeDriver::allocate(std::uint64_t bytes, std::uint64_t alignment) {
  brk_ = (brk_ + alignment - 1) & ~(alignment - 1);
  const Gpa address{brk_};
  brk_ += bytes;
  MSB_CHECK(brk_ <= memory_->size());
  return address;
}
Buffer FakeDriver::readable(ByteView data) {
  const Gpa address = allocate(data.size());
  MSB_CHECK(memory_->write(address, data));
  return {address, static_cast<std::uint32_t>(data.size()), false};
}
Buffer FakeDriver::writable(std::uint32_t length) { return {allocate(length), length, true}; }
Bytes FakeDriver::bytes(Gpa address, std::size_t length) {
  Bytes out(length);
  MSB_CHECK(memory_->read(address, out));
  return out;
}

void FakeDriver::write_descriptor(std::uint16_t queue, std::uint16_t index, Gpa address, std::uint32_t length,
                                  std::uint16_t flags, std::uint16_t next) {
  const Descriptor d{Le64(vmm::to_u64(address)), Le32(length), Le16(flags), Le16(next)};
  MSB_CHECK(memory_->write(at(rings_[queue].config.descriptors, 16 * std::uint64_t{index}), d));
}

std::uint16_t FakeDriver::add(std::uint16_t queue, const std::vector<Buffer>& buffers, Layout layout) {
  Ring& ring = rings_[queue];
  const auto flags = [&](std::size_t i) {
    return static_cast<std::uint16_t>((i + 1 < buffers.size() ? kNext : 0) |
                                      (buffers[i].device_writes ? kWrite : 0));
  };
  if (layout == Layout::kIndirect) {
    const Gpa table = allocate(16 * buffers.size());
    for (std::size_t i = 0; i < buffers.size(); ++i) {
      const Descriptor d{Le64(vmm::to_u64(buffers[i].address)), Le32(buffers[i].length), Le16(flags(i)),
                         Le16(static_cast<std::uint16_t>(i + 1))};
      MSB_CHECK(memory_->write(at(table, 16 * i), d));
    }
    MSB_CHECK(!ring.free.empty());
    const std::uint16_t head = ring.free.back();
    ring.free.pop_back();
    ring.chain_length[head] = 1;
    write_descriptor(queue, head, table, static_cast<std::uint32_t>(16 * buffers.size()), kIndirect, 0);
    publish(queue, head);
    return head;
  }
  MSB_CHECK(ring.free.size() >= buffers.size() && !buffers.empty());
  std::vector<std::uint16_t> slots;
  for (std::size_t i = 0; i < buffers.size(); ++i) {
    slots.push_back(ring.free.back());
    ring.free.pop_back();
  }
  for (std::size_t i = 0; i < buffers.size(); ++i) {
    const std::uint16_t next = i + 1 < slots.size() ? slots[i + 1] : std::uint16_t{0};
    ring.next[slots[i]] = next;
    write_descriptor(queue, slots[i], buffers[i].address, buffers[i].length, flags(i), next);
  }
  ring.chain_length[slots[0]] = static_cast<std::uint16_t>(slots.size());
  publish(queue, slots[0]);
  return slots[0];
}

void FakeDriver::publish(std::uint16_t queue, std::uint16_t head) {
  Ring& ring = rings_[queue];
  MSB_CHECK(memory_->write(at(ring.config.available, 4 + 2 * std::uint64_t{static_cast<std::uint16_t>(
                                                                 ring.available % ring.config.size)}),
                           Le16(head)));
  ++ring.available;
  set_available_index(queue, ring.available);
}
void FakeDriver::set_available_index(std::uint16_t queue, std::uint16_t value) {
  MSB_CHECK(memory_->store_release(at(rings_[queue].config.available, 2), value));
}
void FakeDriver::set_used_event(std::uint16_t queue, std::uint16_t value) {
  const Ring& ring = rings_[queue];
  MSB_CHECK(
      memory_->store_release(at(ring.config.available, 4 + 2 * std::uint64_t{ring.config.size}), value));
}
std::uint16_t FakeDriver::available_event(std::uint16_t queue) {
  const Ring& ring = rings_[queue];
  return *memory_->load_acquire(at(ring.config.used, 4 + 8 * std::uint64_t{ring.config.size}));
}
std::uint16_t FakeDriver::used_index(std::uint16_t queue) {
  return *memory_->load_acquire(at(rings_[queue].config.used, 2));
}

Used FakeDriver::run(std::uint16_t queue, const std::vector<Buffer>& buffers, Layout layout) {
  const std::uint16_t head = add(queue, buffers, layout);
  kick(queue);
  const auto used = wait_used(queue);
  MSB_CHECK(used.size() == 1 && used[0].head == head);
  return used[0];
}

}  // namespace msb::devices::testing
