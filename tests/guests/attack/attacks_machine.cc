// SPDX-License-Identifier: Apache-2.0
#include "attacks.h"
#include "virtio.h"

namespace attack {
namespace {

constexpr std::uint16_t kKeyboard = 0x64;
constexpr std::uint16_t kControl = 0xcf9;

void every_register(const Device& device, Random& random) {
  for (std::uint64_t offset = 0; offset < kDeviceWindow; offset += 4) {
    const auto value = static_cast<std::uint32_t>(random.nasty());
    // A status of 0 would end the state that is being tried.
    if (offset != kStatus) device.set(offset, value);
    static_cast<void>(device.get(offset));
  }
  for (int i = 0; i < 64; ++i) {
    const std::uint64_t at = device.base() + random.below(kDeviceWindow - 8);
    const std::uint64_t value = random.nasty();
    switch (i % 4) {
      case 0:
        store<std::uint8_t>(at, static_cast<std::uint8_t>(value));
        static_cast<void>(load<std::uint8_t>(at));
        break;
      case 1:
        store<std::uint16_t>(at, static_cast<std::uint16_t>(value));
        static_cast<void>(load<std::uint16_t>(at));
        break;
      case 2:
        store<std::uint32_t>(at, static_cast<std::uint32_t>(value));
        static_cast<void>(load<std::uint32_t>(at));
        break;
      default:
        store<std::uint64_t>(at, value);
        static_cast<void>(load<std::uint64_t>(at));
    }
  }
}

// Reads `number` and writes it with numbers at which checks go wrong; each time what was there comes back, so
// that the attack goes on.
void every_value(std::uint32_t number, Random& random) {
  std::uint64_t before = 0;
  const bool readable = read_msr(number, before);
  for (const std::uint64_t value : {std::uint64_t{0}, ~std::uint64_t{0}, before ^ 1, random.nasty()}) {
    const bool taken = write_msr(number, value);
    if (taken && readable) static_cast<void>(write_msr(number, before));
  }
}

}  // namespace

void msrs() {
  constexpr std::uint32_t kApicBase = 0x1b;
  constexpr std::uint32_t kX2Apic = 0x800;
  constexpr std::uint32_t kX2ApicCommand = 0x830;
  constexpr std::uint64_t kX2ApicMode = 0xfee00d00;  // on, of the first CPU
  struct Range {
    std::uint32_t first;
    std::uint32_t count;
  };
  // Intel's, KVM's own, Hyper-V's, AMD's; between them there is nothing.
  static constexpr Range kRanges[] = {{0, 0x1000},          {0x4b564d00, 0x100},  {0x40000000, 0x200},
                                      {0xc0000000, 0x1000}, {0xc0010000, 0x1000}, {0xfffffff0, 0x10}};
  survive_refusals();
  Random random(13);
  for (const Range& range : kRanges) {
    for (std::uint32_t i = 0; i < range.count; ++i) every_value(range.first + i, random);
  }
  if (!write_msr(kApicBase, kX2ApicMode)) triple_fault();
  for (std::uint32_t number = kX2Apic; number < kX2Apic + 0x100; ++number) {
    // It would reset this very CPU.
    if (number != kX2ApicCommand) every_value(number, random);
  }
}

void registers() {
  Random random(1);
  each_device([&](Device& device) {
    every_register(device, random);
    for (const std::uint32_t status :
         {std::uint32_t{kAcknowledge}, kAcknowledge | std::uint32_t{kDriver}, std::uint32_t{kFailed},
          0xffffffffU, 0x00u, std::uint32_t{kDriverOk}}) {
      device.set(kStatus, status);
      every_register(device, random);
    }
    device.reset();
    device.negotiate();
    every_register(device, random);
    device.start();
    every_register(device, random);
    for (int i = 0; i < 200; ++i) device.set(kStatus, static_cast<std::uint32_t>(random.below(256)));
  });
}

void wild_memory() {
  Random random(2);
  // From the end of RAM to 4 GiB, but for the local APIC: what it is asked for stays inside KVM.
  for (int i = 0; i < 4000; ++i) {
    const std::uint64_t at = 0xc0000000 + random.below(0x3ec00000);
    if (i % 2 == 0) store<std::uint32_t>(at, static_cast<std::uint32_t>(random.next()));
    static_cast<void>(load<std::uint64_t>(at));
  }
  for (std::uint64_t at = 0xa0000; at < 0x100000; at += 0x200) {
    store<std::uint64_t>(at, random.next());
    static_cast<void>(load<std::uint8_t>(at + 1));
  }
  // The I/O APIC: all selectors, all redirections, every width.
  for (std::uint32_t index = 0; index < 0x100; ++index) {
    for (int i = 0; i < 4; ++i) {
      store<std::uint32_t>(0xfec00000, index);
      store<std::uint32_t>(0xfec00010, static_cast<std::uint32_t>(random.nasty()));
      static_cast<void>(load<std::uint32_t>(0xfec00010));
    }
  }
  for (std::uint64_t at = 0xfec00000; at < 0xfec01000; at += 3) {
    store<std::uint64_t>(at & ~std::uint64_t{7}, random.next());
    static_cast<void>(load<std::uint16_t>(at));
  }
  // An access that lies half in a device's window, half outside.
  for (unsigned number = 0; number < kMaxDevices; ++number) {
    const std::uint64_t end = kDevices + number * kDeviceStride + kDeviceWindow;
    for (std::uint64_t at = end - 8; at < end + 8; ++at) {
      store<std::uint64_t>(at, random.next());
      static_cast<void>(load<std::uint64_t>(at));
    }
  }
}

void wild_ports() {
  Random random(3);
  for (std::uint32_t port = 0; port < 0x10000; port += port < 0x1000 ? 1 : 97) {
    const auto at = static_cast<std::uint16_t>(port);
    static_cast<void>(in8(at));
    // A value that resets would end the attack.
    if (at == kKeyboard || at == kControl || (at > kKeyboard - 4 && at < kKeyboard) ||
        (at > kControl - 4 && at < kControl))
      continue;
    out8(at, static_cast<std::uint8_t>(random.next()));
    out16(at, static_cast<std::uint16_t>(random.nasty()));
    out32(at, static_cast<std::uint32_t>(random.nasty()));
    static_cast<void>(in32(at));
  }
  for (const std::uint16_t port :
       {std::uint16_t{0x3f8}, std::uint16_t{0x3fd}, std::uint16_t{0x80}, std::uint16_t{0xffff}}) {
    out8_string(port, reinterpret_cast<const void*>(0x200000), 20000);
    in32_string(port, reinterpret_cast<void*>(0x3000000), 5000);
  }
  out8(0x3fb, 3);  // the early console's transmit register is for text again
}

void doorbells() {
  Random random(4);
  each_device([&](Device& device) {
    for (std::uint32_t i = 0; i < 2000; ++i) device.kick(i % 6);  // before there is a driver
    device.start();
    const unsigned queues = device.queues();
    for (unsigned queue = 0; queue < queues; ++queue)
      device.table(queue)[0] = {device.buffer(queue), 16, kWrite, 0};
    for (std::uint32_t i = 0; i < 4000; ++i) {
      const auto queue = static_cast<unsigned>(random.below(queues));
      if (i % 8 == 0) {
        device.offer(queue, 0);
      } else {
        device.kick(i % 1000 == 1 ? static_cast<std::uint32_t>(random.nasty()) : queue);
      }
    }
  });
}

void reset_storm() {
  Random random(5);
  each_device([&](Device& device) {
    for (int i = 0; i < 100; ++i) {
      device.start();
      const unsigned queues = device.queues();
      for (unsigned queue = 0; queue < queues; ++queue) {
        for (std::uint16_t slot = 0; slot < Device::kSize; slot = static_cast<std::uint16_t>(slot + 3)) {
          Descriptor* const table = device.table(queue);
          table[slot] = {device.buffer(slot), 64, kNext, static_cast<std::uint16_t>(slot + 1)};
          table[slot + 1] = {device.buffer(slot) + 0x1000, 0x8000, kNext | kWrite,
                             static_cast<std::uint16_t>(slot + 2)};
          if (slot + 2 < Device::kSize) table[slot + 2] = {device.buffer(slot) + 0xa000, 1, kWrite, 0};
          device.offer(queue, slot, false);
        }
        device.kick(queue);
      }
      for (std::uint64_t wait = random.below(2000); wait > 0; --wait) asm volatile("pause");
      device.reset();
    }
  });
}

void consoles() {
  static constexpr char kLine[] = "Kernel panic - not syncin";  // without its end it is no farewell
  for (int i = 0; i < 2000; ++i) say(kLine);
  each_device([](Device& device) {
    if (device.id() != kConsole) return;
    for (std::uint32_t i = 0; i < 5000; ++i) device.set(kConfig + 8, i);  // the emergency write
    device.start();
    for (int i = 0; i < 100; ++i) {
      Descriptor chain[Device::kSize];
      for (std::uint16_t n = 0; n < Device::kSize; ++n) {
        chain[n] = {0x200000, 0x100000, n + 1 < Device::kSize ? std::uint16_t{kNext} : std::uint16_t{0},
                    static_cast<std::uint16_t>(n + 1)};
      }
      if (!device.send(1, chain, Device::kSize)) device.start();
    }
  });
}

}  // namespace attack
