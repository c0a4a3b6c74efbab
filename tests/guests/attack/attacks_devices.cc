// SPDX-License-Identifier: Apache-2.0
#include "attacks.h"
#include "virtio.h"

namespace attack {
namespace {

struct BlockRequest {
  std::uint32_t type;
  std::uint32_t reserved;
  std::uint64_t sector;
};
struct EraseSegment {
  std::uint64_t sector;
  std::uint32_t sectors;
  std::uint32_t flags;
};
constexpr std::uint32_t kRead = 0;
constexpr std::uint32_t kWriteOut = 1;
constexpr std::uint32_t kDiscard = 11;
constexpr std::uint32_t kWriteZeroes = 13;

struct SocketHeader {
  std::uint64_t source_cid;
  std::uint64_t destination_cid;
  std::uint32_t source_port;
  std::uint32_t destination_port;
  std::uint32_t length;
  std::uint16_t type;
  std::uint16_t op;
  std::uint32_t flags;
  std::uint32_t buf_alloc;
  std::uint32_t fwd_cnt;
} __attribute__((packed));
static_assert(sizeof(SocketHeader) == 44);
enum SocketOp : std::uint16_t {
  kRequest = 1,
  kResponse,
  kReset,
  kShutdown,
  kData,
  kCreditUpdate,
  kCreditRequest
};
constexpr unsigned kReceive = 0;
constexpr unsigned kTransmit = 1;
constexpr std::uint32_t kReadyPort = 1;

// One packet with `length` bytes from `payload`; what the header says of them is the caller's.
bool send_packet(Device& device, const SocketHeader& header, std::uint64_t payload = 0,
                 std::uint32_t length = 0) {
  *reinterpret_cast<SocketHeader*>(device.buffer(0)) = header;
  const Descriptor chain[] = {
      {device.buffer(0), sizeof header, static_cast<std::uint16_t>(length > 0 ? kNext : 0), 1},
      {payload, length, 0, 0}};
  return device.send(kTransmit, chain, length > 0 ? 2 : 1);
}

SocketHeader packet(std::uint16_t op, std::uint32_t from, std::uint32_t to) {
  return {.source_cid = 3,
          .destination_cid = 2,
          .source_port = from,
          .destination_port = to,
          .length = 0,
          .type = 1,
          .op = op,
          .flags = 0,
          .buf_alloc = 0x10000,
          .fwd_cnt = 0};
}

// Buffers 8 to 15 for what the host sends.
void give_receive_buffers(Device& device) {
  for (std::uint16_t slot = 0; slot < 8; ++slot) {
    device.table(kReceive)[slot] = {device.buffer(8u + slot), 0x10000, kWrite, 0};
    device.offer(kReceive, slot, false);
  }
  device.kick(kReceive);
}

// Until the host has sent `count` packets of data into these buffers, which takes it many looks; a bounded
// while.
void wait_for_data(const Device& device, unsigned count) {
  for (unsigned tries = 0; tries < 200000; ++tries) {
    const std::uint16_t used = device.used(kReceive)[1];
    unsigned seen = 0;
    for (std::uint16_t i = 0; i < used && i < Device::kSize; ++i) {
      const auto slot =
          load<std::uint32_t>(reinterpret_cast<std::uint64_t>(device.used(kReceive)) + 4 + i * 8u);
      if (reinterpret_cast<const SocketHeader*>(device.buffer(8 + slot % 8))->op == kData) ++seen;
    }
    if (seen >= count) return;
    static_cast<void>(device.get(kStatus));  // an exit gives the host's threads a turn
  }
}

}  // namespace

void disks() {
  Random random(8);
  each_device([&](Device& device) {
    if (device.id() != kBlock) return;
    const std::uint64_t sectors = device.get(kConfig) | std::uint64_t{device.get(kConfig + 4)} << 32;
    auto* const request = reinterpret_cast<BlockRequest*>(device.buffer(0));
    device.start();
    for (const std::uint32_t type : {kRead, kWriteOut, 4u, 8u, kDiscard, kWriteZeroes, 0xffffffffu}) {
      for (const std::uint64_t sector : {std::uint64_t{0}, sectors - 1, sectors, sectors + 1,
                                         ~std::uint64_t{0} / 512, ~std::uint64_t{0}}) {
        for (const std::uint32_t length : {0u, 1u, 511u, 512u, 1024u, 0x10000u}) {
          *request = {type, 0, sector};
          const auto way = static_cast<std::uint16_t>(type == kRead ? kWrite : 0);
          const Descriptor chain[] = {{device.buffer(0), 16, kNext, 1},
                                      {device.buffer(1), length, static_cast<std::uint16_t>(kNext | way), 2},
                                      {device.buffer(2), 1, kWrite, 0}};
          if (!device.send(0, chain, 3)) device.start();
        }
      }
    }
    auto* const segments = reinterpret_cast<EraseSegment*>(device.buffer(1));
    for (int i = 0; i < 300; ++i) {
      const auto count = static_cast<std::uint32_t>(random.below(64));
      *request = {i % 2 == 0 ? kDiscard : kWriteZeroes, 0, 0};
      for (std::uint32_t n = 0; n < count; ++n) {
        segments[n] = {random.nasty(), static_cast<std::uint32_t>(random.nasty()),
                       static_cast<std::uint32_t>(random.below(3))};
      }
      const Descriptor chain[] = {{device.buffer(0), 16, kNext, 1},
                                  {device.buffer(1), count * 16, kNext, 2},
                                  {device.buffer(2), 1, kWrite, 0}};
      if (!device.send(0, chain, 3)) device.start();
    }
    // One request for far more than there is memory: every descriptor names the same megabytes.
    Descriptor all[Device::kSize];
    *request = {kRead, 0, 0};
    all[0] = {device.buffer(0), 16, kNext, 1};
    for (std::uint16_t n = 1; n + 1 < Device::kSize; ++n) {
      all[n] = {0x4800000, 0x2000000, kNext | kWrite, static_cast<std::uint16_t>(n + 1)};
    }
    all[Device::kSize - 1] = {device.buffer(2), 1, kWrite, 0};
    for (int i = 0; i < 20; ++i) {
      if (!device.send(0, all, Device::kSize)) device.start();
    }
  });
}

void sockets() {
  Random random(9);
  each_device([&](Device& device) {
    if (device.id() != kVsock) return;
    // Without a buffer for answers: the device may keep few of them.
    device.start();
    for (std::uint32_t port = 0; port < 1000; ++port) {
      if (!send_packet(device, packet(kRequest, port, port % 3))) device.start();
    }
    device.start();
    give_receive_buffers(device);
    for (std::uint32_t port = 0; port < 1000; ++port) {
      SocketHeader header =
          packet(static_cast<std::uint16_t>(port % 9), port % 64, port % 2 == 0 ? kReadyPort : port);
      header.length = port % 5 == 0 ? static_cast<std::uint32_t>(random.nasty()) : 64;
      header.flags = static_cast<std::uint32_t>(random.nasty());
      header.buf_alloc = static_cast<std::uint32_t>(random.nasty());
      header.fwd_cnt = static_cast<std::uint32_t>(random.nasty());
      if (port % 11 == 0) header.source_cid = random.nasty();
      if (port % 13 == 0) header.type = 2;
      if (!send_packet(device, header, device.buffer(1), 64)) {
        device.start();
        give_receive_buffers(device);
      }
      if (port % 8 == 7) give_receive_buffers(device);
    }
    // One connection that sends beyond all credit to a host that does not read it.
    device.start();
    give_receive_buffers(device);
    send_packet(device, packet(kRequest, 70, kReadyPort));
    for (int i = 0; i < 100; ++i) {
      SocketHeader header = packet(kData, 70, kReadyPort);
      header.length = 0x10000;
      if (!send_packet(device, header, device.buffer(1), 0x10000)) device.start();
    }
  });
}

void balloon() {
  each_device([](Device& device) {
    if (device.id() != kBalloon) return;
    device.start();
    auto* const frames = reinterpret_cast<std::uint32_t*>(device.buffer(0));
    // Our own code stays: frames 0x200 to 0x400.
    for (std::uint32_t first = 0x400; first < 0x8000; first += 0x1000) {
      for (std::uint32_t n = 0; n < 0x1000; ++n) frames[n] = first + n;
      const Descriptor chain[] = {{device.buffer(0), 0x4000, 0, 0}};
      if (!device.send(0, chain, 1)) device.start();
    }
    for (std::uint32_t n = 0; n < 0x1000; ++n) frames[n] = 0xfffff000u + n;
    const Descriptor wild[] = {{device.buffer(0), 0x4000, 0, 0}};
    for (unsigned queue = 0; queue < 4; ++queue) {
      device.start();
      device.send(queue, wild, 1);
    }
    for (const std::uint64_t at :
         {std::uint64_t{0}, std::uint64_t{0x9f000}, std::uint64_t{0x7fff000}, std::uint64_t{0x2000800}}) {
      device.start();
      const Descriptor report[] = {{at, 0x2001, kWrite, 0}};
      device.send(3, report, 1);
    }
    for (std::uint32_t i = 0; i < 2000; ++i) device.set(kConfig + 4, i * 0x10001u);
  });
}

void frames() {
  Random random(10);
  each_device([&](Device& device) {
    if (device.id() != kNet) return;
    device.start();
    give_receive_buffers(device);
    auto* const words = reinterpret_cast<std::uint64_t*>(device.buffer(0));
    for (unsigned n = 0; n < 0x2000; ++n) words[n] = random.next();
    for (std::uint32_t length = 0; length < 3000; ++length) {
      words[random.below(16)] = random.nasty();
      // Every other time a header that asks for nothing and an Ethernet type that msb-net looks into.
      auto* const bytes = reinterpret_cast<std::uint8_t*>(device.buffer(0));
      if (length % 2 == 0) {
        words[0] = 0;
        bytes[8] = bytes[9] = bytes[10] = bytes[11] = 0;
        bytes[24] = length % 4 == 0 ? 8 : 0x86;
        bytes[25] = length % 4 == 0 ? (length % 8 == 0 ? 0 : 6) : 0xdd;
        bytes[26] = length % 4 == 0 ? 0x45 : 0x60;
      }
      const Descriptor chain[] = {{device.buffer(0), length % 100 == 99 ? 0x10000 : length, 0, 0}};
      if (!device.send(kTransmit, chain, 1)) {
        device.start();
        give_receive_buffers(device);
      }
    }
  });
}

void false_agent() {
  each_device([](Device& device) {
    if (device.id() != kVsock) return;
    device.start();
    give_receive_buffers(device);
    send_packet(device, packet(kRequest, 1000, kReadyPort));
    wait_for_data(device, 1);  // its HELLO: the connection stands
    std::uint8_t* out = reinterpret_cast<std::uint8_t*>(device.buffer(1));
    std::uint32_t length = 0;
    const auto frame = [&](std::uint8_t type, const char* text, std::uint32_t zeros = 0) {
      std::uint32_t size = zeros;
      for (const char* at = text; *at != '\0'; ++at) ++size;
      const std::uint8_t header[] = {static_cast<std::uint8_t>(size),
                                     static_cast<std::uint8_t>(size >> 8),
                                     static_cast<std::uint8_t>(size >> 16),
                                     0,
                                     type,
                                     0,
                                     0,
                                     0};
      for (const std::uint8_t byte : header) out[length++] = byte;
      for (const char* at = text; *at != '\0'; ++at) out[length++] = static_cast<std::uint8_t>(*at);
      for (; zeros > 0; --zeros) out[length++] = 0xfe;
    };
    const auto flush = [&] {
      SocketHeader header = packet(kData, 1000, kReadyPort);
      header.length = length;
      header.buf_alloc = 0x7fffffff;
      send_packet(device, header, device.buffer(1), length);
      length = 0;
    };
    constexpr std::uint8_t kHello = 1;
    constexpr std::uint8_t kReply = 3;
    constexpr std::uint8_t kEvent = 14;
    constexpr std::uint8_t kLog = 15;
    constexpr std::uint8_t kReady = 18;
    constexpr std::uint8_t kShutdownDone = 20;
    frame(kHello, R"({"version":1,"min":1,"agent":"false"})");
    frame(kReady,
          R"({"agent_started_ns":1,"mounted_ns":1,"ready_ns":1,"kernel":"none\u001b[2J","warnings":[]})");
    flush();
    wait_for_data(device, 2);  // its CLOCK: it took the READY
    for (int i = 0; i < 300; ++i) {
      frame(kLog, "", 50000);
      frame(kEvent,
            R"({"event":"session_exited","session":18446744073709551615,"name":"x","exit":{"code":0}})");
      frame(kEvent, R"({"event":"oom","count":18446744073709551615})");
      frame(kReply, R"({"sessions":-1})");
      frame(kReady, R"({"agent_started_ns":1})");
      frame(kShutdownDone, "");
      frame(kEvent, "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[");
      flush();
      if (i % 8 == 7) give_receive_buffers(device);
    }
    // A frame that never ends, then nothing a parser could know.
    out[0] = out[1] = out[2] = out[3] = 0xff;
    length = 0x8000;
    flush();
    send_packet(device, packet(kReset, 1000, kReadyPort));
  });
}

}  // namespace attack
