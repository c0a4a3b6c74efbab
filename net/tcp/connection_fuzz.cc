// SPDX-License-Identifier: Apache-2.0
// A TCP connection against a guest that sends whatever it likes. Records of eight bytes: event, flags,
// distance of the sequence number from what is expected, of the acknowledgment from what was sent, window
// (two bytes), length, time. Whatever comes: the host side gets each byte once, in order and in the version
// that came first in order; memory stays within the budget; and after finished() nothing more happens.
#include <array>
#include <cstdlib>

#include "net/tcp/connection.h"

namespace {

using namespace msb::net;  // NOLINT: a fuzz target is one file
using msb::ByteView;

constexpr std::uint32_t kGuestStart = 0xfffff000;  // sequence numbers wrap soon
constexpr std::uint8_t content(std::uint32_t at) { return static_cast<std::uint8_t>(at % 253); }

class World final : public ConnectionIo {
 public:
  void send_segment(const TcpOutput& segment) override {
    living();
    if ((segment.flags & kTcpAck) != 0 && (segment.flags & kTcpRst) == 0) {
      // The first one acknowledges the guest's SYN: its stream begins there.
      if (!begun) delivered = segment.acknowledgment;
      begun = true;
      guest_next = segment.acknowledgment;
    }
    std::uint32_t length = 0;
    for (const ByteView part : segment.payload) length += static_cast<std::uint32_t>(part.size());
    if ((segment.flags & (kTcpSyn | kTcpFin)) != 0) ++length;
    const std::uint32_t end = segment.sequence + length;
    if (!sent_any || static_cast<std::int32_t>(end - our_next) > 0) our_next = end;
    sent_any = true;
  }
  bool can_send() const override { return link_open; }
  std::size_t deliver(ByteView bytes) override {
    living();
    const std::size_t take = std::min(bytes.size(), appetite);
    for (std::size_t i = 0; i < take; ++i) {
      if (bytes[i] != content(delivered++)) std::abort();
    }
    return take;
  }
  void deliver_eof() override {
    living();
    if (eof) std::abort();
    eof = true;
  }
  void opened() override { living(); }
  void aborted() override { living(); }
  void finished() override {
    living();
    done = true;
  }
  void living() const {
    if (done) std::abort();
  }

  std::uint32_t guest_next = kGuestStart + 1;
  std::uint32_t our_next = 0;
  std::uint32_t delivered = 0;  // sequence number of the next byte
  bool begun = false;
  std::size_t appetite = SIZE_MAX;
  bool sent_any = false;
  bool link_open = true;
  bool eof = false;
  bool done = false;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  World world;
  BufferBudget budget;
  budget.limit = std::uint64_t{256} << 10;
  msb::Instant now{};
  TcpSegment syn;
  syn.sequence = kGuestStart;
  syn.flags = kTcpSyn;
  syn.window = 64000;
  syn.mss = 1460;
  syn.window_scale = 7;
  if (size == 0) return 0;
  const bool guest_dials = (data[0] & 1) != 0;
  std::optional<Connection> connection;
  if (guest_dials)
    connection.emplace(Connection::Config{}, budget, syn, 0x7ffffff0U, now);
  else
    connection.emplace(Connection::Config{}, budget, 0x7ffffff0U, now);
  if (guest_dials)
    connection->host_connected(now, world);
  else
    connection->start(now, world);
  std::array<std::uint8_t, 4096> payload{};
  for (++data, --size; size >= 8 && !world.done; data += 8, size -= 8) {
    now = now + std::chrono::milliseconds(data[7] * data[7]);
    switch (data[0] % 12) {
      case 0:
        connection->end_batch(world);
        break;
      case 1:
        if (connection->deadline() && *connection->deadline() <= now) connection->on_timer(now, world);
        break;
      case 2: {
        const msb::MutableBytes room = connection->host_buffer();
        const std::size_t take = std::min<std::size_t>(room.size(), data[6] * 64U);
        std::fill_n(room.begin(), take, std::uint8_t{7});
        if (take != 0) connection->host_received(take, now, world);
        break;
      }
      case 3:
        if (connection->state() == Connection::State::kOpen && !connection->host_eof_seen())
          connection->host_eof(now, world);
        break;
      case 4:
        world.appetite = (data[1] & 1) != 0 ? SIZE_MAX : data[6];
        if (connection->wants_host_writable()) connection->host_writable(now, world);
        break;
      case 5:
        world.link_open = (data[1] & 1) != 0;
        if (world.link_open) connection->output_ready(now, world);
        break;
      default: {
        TcpSegment segment;
        segment.flags = data[1];
        const auto distance = static_cast<std::int8_t>(data[2]);
        segment.sequence =
            world.guest_next + static_cast<std::uint32_t>(distance * (data[0] >= 128 ? 4096 : 1));
        segment.acknowledgment =
            world.our_next -
            static_cast<std::uint32_t>(static_cast<std::int8_t>(data[3]) * (data[0] >= 192 ? 512 : 1));
        segment.window = static_cast<std::uint16_t>(data[4] * 256U + data[5]);
        const std::size_t length = data[6] * 16U;
        for (std::size_t i = 0; i < length; ++i) {
          const bool syn_takes_one = (segment.flags & kTcpSyn) != 0;
          payload[i] = content(segment.sequence + static_cast<std::uint32_t>(i) + (syn_takes_one ? 1U : 0U));
        }
        segment.payload = ByteView(payload).first(length);
        if ((segment.flags & kTcpSyn) != 0) segment.mss = 1 + data[6];
        connection->on_segment(segment, now, world);
      }
    }
    if (budget.used > budget.limit) std::abort();
  }
  return 0;
}
