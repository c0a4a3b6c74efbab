// SPDX-License-Identifier: Apache-2.0
#include "attacks.h"
#include "virtio.h"

namespace attack {
namespace {

// Where no RAM is, or not all of the range: the guest has far less than 3 GiB.
constexpr std::uint64_t kBadAddresses[] = {0xa0000,
                                           0xfffff,
                                           0xbffffff0,
                                           kDevices,
                                           0xfec00000,
                                           0xfee00000,
                                           0xfffffffffffffff0,
                                           0xffffffffffffffff,
                                           0x8000000000000000,
                                           0x7ffffffffffff000,
                                           0xffffffff,
                                           0x100000000,
                                           0x9fff8};
constexpr std::uint32_t kBadLengths[] = {0, 1, 4095, 0x10000, 0x7fffffff, 0x80000000, 0xfffffff0, 0xffffffff};

// Where the linker puts this guest (2 MiB, CMakeLists.txt), and what it keeps to: a guest that lets a device
// overwrite its own code ends anywhere, and then the rest of an attack is not made.
constexpr std::uint64_t kOurs = 0x200000;
constexpr std::uint64_t kOurEnd = 0x400000;
bool spares_us(std::uint64_t address, std::uint32_t length) {
  return address >= kOurEnd || (address <= kOurs && length <= kOurs - address);
}

template <typename Attack>
void each_queue(Attack attack) {
  each_device([&](Device& device) {
    const unsigned queues = device.queues();
    for (unsigned queue = 0; queue < queues; ++queue) attack(device, queue);
  });
}

// What the second CPU spoils.
struct Target {
  volatile std::uint64_t table = 0;  // 0: nothing now
  volatile std::uint64_t available = 0;
  volatile std::uint64_t buffer = 0;
};
Target target;

// Good and bad values in turn, as fast as it goes: what was checked is not what is used, unless it is read
// once.
void spoil() {
  static constexpr std::uint32_t kLengths[] = {0, 1, 16, 512, 4096, 0x10000, 0x80000000, 0xffffffff};
  static constexpr std::uint16_t kSlots = 4;
  Random random(12);
  while (true) {
    const std::uint64_t table = target.table;
    const std::uint64_t buffer = target.buffer;
    if (table == 0) {
      asm volatile("pause");
      continue;
    }
    const std::uint64_t slot = table + random.below(kSlots) * sizeof(Descriptor);
    const std::uint64_t choice = random.next();
    const std::uint64_t bad_address = choice % 2 == 0 ? kBadAddresses[choice / 2 % 13] : table;
    for (int times = 0; times < 8; ++times) {
      store<std::uint64_t>(slot, times % 2 == 0 ? bad_address : buffer);
      store<std::uint32_t>(slot + 8, kLengths[(choice >> 8) % (times % 2 == 0 ? 8 : 5)]);
      store<std::uint16_t>(slot + 12, static_cast<std::uint16_t>((choice >> 16) >> times & 7));
      store<std::uint16_t>(slot + 14, static_cast<std::uint16_t>((choice >> 24) % (kSlots + 1)));
      // The heads of requests: of a disk, its kind and place.
      store<std::uint32_t>(buffer, static_cast<std::uint32_t>((choice >> 32) % 16));
      store<std::uint64_t>(buffer + 8, times % 2 == 0 ? ~std::uint64_t{0} - 1 : 0);
    }
    if (choice % 64 == 0) store<std::uint16_t>(target.available + 4 + choice / 64 % 16 * 2, 0xffff);
    if (choice % 512 == 1)
      store<std::uint16_t>(target.available + 2, static_cast<std::uint16_t>(choice >> 40));
  }
}

// The device may refuse the chain for good; then the next one starts it anew.
void try_chain(Device& device, unsigned queue, const Descriptor* chain, std::uint16_t count) {
  device.start_if_broken();
  device.send(queue, chain, count);
}

}  // namespace

void ring_loops() {
  each_queue([](Device& device, unsigned queue) {
    const std::uint64_t data = device.buffer(0);
    const std::uint64_t list = device.buffer(1);
    auto* const inner = reinterpret_cast<Descriptor*>(list);
    for (const std::uint16_t way : {std::uint16_t{0}, std::uint16_t{kWrite}}) {
      const auto next = static_cast<std::uint16_t>(way | kNext);
      const Descriptor itself[] = {{data, 16, next, 0}};
      try_chain(device, queue, itself, 1);
      const Descriptor pair[] = {{data, 16, next, 1}, {data, 16, next, 0}};
      try_chain(device, queue, pair, 2);
      const Descriptor beyond[] = {{data, 16, next, Device::kSize}};
      try_chain(device, queue, beyond, 1);
      const Descriptor far[] = {{data, 16, next, 0xffff}};
      try_chain(device, queue, far, 1);
      // A table that holds itself, one that loops, one whose chain leaves it, one of odd or no size, one too
      // long.
      inner[0] = {list, 16, static_cast<std::uint16_t>(kIndirect | way), 0};
      for (const std::uint32_t size : {0u, 15u, 16u, 17u, 32u, 0x100000u, 0xfffffff0u}) {
        const Descriptor table[] = {{list, size, static_cast<std::uint16_t>(kIndirect | way), 0}};
        try_chain(device, queue, table, 1);
      }
      inner[0] = {data, 16, next, 1};
      inner[1] = {data, 16, next, 0};
      const Descriptor loop[] = {{list, 32, kIndirect, 0}};
      try_chain(device, queue, loop, 1);
      inner[1] = {data, 16, next, 2};
      try_chain(device, queue, loop, 1);
      const Descriptor both[] = {{list, 32, kIndirect | kNext, 1}, {data, 16, way, 0}};
      try_chain(device, queue, both, 2);
    }
    const Descriptor backwards[] = {{data, 16, kNext | kWrite, 1}, {data, 16, 0, 0}};
    try_chain(device, queue, backwards, 2);
    for (const std::uint16_t jump : {std::uint16_t{Device::kSize + 1}, std::uint16_t{0x7fff},
                                     std::uint16_t{0x8000}, std::uint16_t{0xffff}}) {
      device.start();
      device.available(queue)[1] = jump;
      device.kick(queue);
      device.wait_used(queue);
    }
    for (const std::uint16_t head : {std::uint16_t{Device::kSize}, std::uint16_t{0xffff}}) {
      device.start();
      device.offer(queue, head);
      device.wait_used(queue);
    }
  });
}

void outside_ram() {
  Random random(11);
  each_queue([&](Device& device, unsigned queue) {
    for (int i = 0; i < 50; ++i) {
      static constexpr std::uint16_t kWays[] = {0, kWrite, kIndirect};
      const Descriptor chain[] = {
          {kBadAddresses[random.below(sizeof kBadAddresses / sizeof kBadAddresses[0])],
           kBadLengths[random.below(sizeof kBadLengths / sizeof kBadLengths[0])], kWays[random.below(3)], 0}};
      try_chain(device, queue, chain, 1);
    }
    for (const std::uint64_t address : kBadAddresses) {
      // Behind a header that is right, so that it is not the first thing looked at.
      const Descriptor late[] = {{device.buffer(0), 64, kNext, 1},
                                 {address, 4096, kNext | kWrite, 2},
                                 {device.buffer(1), 1, kWrite, 0}};
      try_chain(device, queue, late, 3);
      for (const std::uint64_t ring : {kQueueDescriptors, kQueueAvailable, kQueueUsed}) {
        device.reset();
        device.negotiate();
        device.set(kQueueSelect, queue);
        device.set(kQueueSize, Device::kSize);
        device.set64(ring, address);
        device.set(kQueueReady, 1);
        device.set(kStatus, kAcknowledge | kDriver | kFeaturesOk | kDriverOk);
        device.kick(queue);
      }
    }
    // Nearly 2 GiB in one chain: the same memory again and again.
    Descriptor many[Device::kSize];
    for (std::uint16_t i = 0; i < Device::kSize; ++i) {
      many[i] = {kOurEnd, 0x7000000,
                 static_cast<std::uint16_t>(i + 1 < Device::kSize ? kNext | kWrite : kWrite),
                 static_cast<std::uint16_t>(i + 1)};
    }
    try_chain(device, queue, many, Device::kSize);
  });
}

void own_rings() {
  Random random(6);
  each_queue([&](Device& device, unsigned queue) {
    for (int i = 0; i < 30; ++i) {
      device.start_if_broken();
      const auto table = reinterpret_cast<std::uint64_t>(device.table(queue));
      const std::uint64_t target = table + random.below(0x3000);
      const Descriptor chain[] = {
          {device.buffer(0), 16, kNext, 1}, {target, 2048, kNext | kWrite, 2}, {target, 1, kWrite, 0}};
      device.send(queue, chain, 3);
      const Descriptor written[] = {{target, 4096, kWrite, 0}};
      device.send(queue, written, 1);
      device.kick(queue);
    }
  });
}

void racing_cpus() {
  if (!start_second_cpu(spoil)) {
    say("no second CPU\n");
    triple_fault();
  }
  each_queue([](Device& device, unsigned queue) {
    for (int round = 0; round < 150; ++round) {
      device.start_if_broken();
      auto* const inner = reinterpret_cast<Descriptor*>(device.buffer(0) + 0x800);
      inner[0] = {device.buffer(0), 16, kNext, 1};
      inner[1] = {device.buffer(1), 512, kNext | kWrite, 2};
      inner[2] = {device.buffer(2), 1, kWrite, 0};
      const Descriptor plain[] = {{device.buffer(0), 16, kNext, 1},
                                  {device.buffer(1), 4096, kNext | kWrite, 2},
                                  {device.buffer(2), 1, kWrite, 0}};
      const Descriptor through_table[] = {{device.buffer(0) + 0x800, 3 * sizeof(Descriptor), kIndirect, 0}};
      target.available = reinterpret_cast<std::uint64_t>(device.available(queue));
      target.buffer = device.buffer(0);
      // Every other time it is the inner table that changes.
      target.table = round % 2 == 0 ? reinterpret_cast<std::uint64_t>(device.table(queue))
                                    : reinterpret_cast<std::uint64_t>(inner);
      device.send(queue, round % 2 == 0 ? plain : through_table, round % 2 == 0 ? 3 : 1);
      for (int more = 0; more < 4; ++more) device.offer(queue, 0);
    }
    target.table = 0;
  });
}

void random_rings() {
  Random random(7);
  for (int round = 0; round < 15; ++round) {
    each_device([&](Device& device) {
      device.start();
      const unsigned queues = device.queues();
      for (int i = 0; i < 24; ++i) {
        const auto queue = static_cast<unsigned>(random.below(queues));
        for (unsigned slot = 0; slot < Device::kSize; ++slot) {
          const bool inside = random.below(4) != 0;
          const std::uint64_t address = inside ? device.buffer(slot) : random.nasty();
          const auto length = static_cast<std::uint32_t>(inside ? random.below(0x2000) : random.nasty());
          auto* const content = reinterpret_cast<std::uint32_t*>(device.buffer(slot));
          for (unsigned word = 0; word < 16; ++word)
            content[word] = static_cast<std::uint32_t>(random.nasty());
          device.table(queue)[slot] = {address, spares_us(address, length) ? length : 16,
                                       static_cast<std::uint16_t>(random.below(8)),
                                       static_cast<std::uint16_t>(random.below(Device::kSize + 1))};
        }
        for (std::uint64_t n = random.below(Device::kSize); n > 0; --n) {
          device.offer(queue, static_cast<std::uint16_t>(random.below(Device::kSize)), false);
        }
        device.kick(queue);
        if (random.below(4) == 0)
          device.set(random.below(kDeviceWindow / 4) * 4, static_cast<std::uint32_t>(random.nasty()));
        device.start_if_broken();
      }
    });
  }
}

}  // namespace attack
