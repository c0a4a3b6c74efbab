// SPDX-License-Identifier: Apache-2.0
// Two machines joined by a pipe that can lose, repeat, delay and reorder; time is a number the test moves.
#include "net/tcp/connection.h"

#include <gtest/gtest.h>

#include <deque>
#include <map>

namespace msb::net {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::seconds;

struct Wire {
  TcpSegment segment;
  Bytes payload;
};

class Pipe;

// One end: the machine, an application that sends `to_send` and reads all, and the trouble the test asks for.
class End final : public ConnectionIo {
 public:
  End(Pipe& pipe, int side) : pipe_(pipe), side_(side) {}
  void send_segment(const TcpOutput& out) override;
  bool can_send() const override { return link_open; }
  std::size_t deliver(ByteView bytes) override {
    const std::size_t take = std::min(bytes.size(), appetite);
    if (appetite != SIZE_MAX) appetite -= take;
    received.insert(received.end(), bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(take));
    return take;
  }
  void deliver_eof() override { eof = true; }
  void opened() override { is_open = true; }
  void aborted() override { was_aborted = true; }
  void finished() override { done = true; }

  // Moves application data in as far as there is room.
  void pump(Instant now) {
    while (sent < to_send.size() && !done) {
      const MutableBytes room = connection->host_buffer();
      if (room.empty()) return;
      const std::size_t count = std::min(room.size(), to_send.size() - sent);
      std::copy_n(to_send.begin() + static_cast<std::ptrdiff_t>(sent), count, room.begin());
      sent += count;
      connection->host_received(count, now, *this);
    }
    if (sent == to_send.size() && close_after && !done && connection->state() == Connection::State::kOpen)
      connection->host_eof(now, *this);
  }

  BufferBudget budget;
  std::optional<Connection> connection;
  Bytes to_send;
  Bytes received;
  std::size_t sent = 0;
  std::size_t appetite = SIZE_MAX;
  bool close_after = true;
  bool link_open = true;
  bool eof = false;
  bool is_open = false;
  bool was_aborted = false;
  bool done = false;
  int resets_seen = 0;

 private:
  Pipe& pipe_;
  int side_;
};

class Pipe {
 public:
  explicit Pipe(std::uint64_t seed) : seed_(seed) {}
  std::uint64_t random() {
    seed_ ^= seed_ << 13;
    seed_ ^= seed_ >> 7;
    seed_ ^= seed_ << 17;
    return seed_;
  }
  void send(int from, const TcpOutput& out) {
    Wire wire;
    wire.segment.sequence = out.sequence;
    wire.segment.acknowledgment = out.acknowledgment;
    wire.segment.flags = out.flags;
    wire.segment.window = out.window;
    wire.segment.mss = out.mss;
    wire.segment.window_scale = out.window_scale;
    for (const ByteView part : out.payload) wire.payload.insert(wire.payload.end(), part.begin(), part.end());
    ++count;
    if (random() % 100 < loss_percent) return;
    const int copies = random() % 100 < duplicate_percent ? 2 : 1;
    for (int i = 0; i < copies; ++i) {
      const Duration extra = random() % 100 < reorder_percent ? Duration(milliseconds(5)) : Duration(0);
      in_flight.emplace(now + delay + extra, std::pair(1 - from, wire));
    }
  }
  // Runs until nothing is left to happen or `until` is reached.
  void run(End& a, End& b, Duration limit) {
    const Instant end = now + limit;
    End* ends[2] = {&a, &b};
    for (int step = 0; step < 2'000'000; ++step) {
      for (End* e : ends) {
        if (e->connection && !e->done) {
          e->pump(now);
          if (!e->done) e->connection->end_batch(*e);
        }
      }
      std::optional<Instant> next;
      if (!in_flight.empty()) next = in_flight.begin()->first;
      for (End* e : ends) {
        if (!e->connection || e->done) continue;
        const auto due = e->connection->deadline();
        if (due && (!next || *due < *next)) next = due;
      }
      if (!next || *next > end) {
        now = end;
        return;
      }
      now = std::max(now, *next);
      while (!in_flight.empty() && in_flight.begin()->first <= now) {
        auto [to, wire] = in_flight.begin()->second;
        in_flight.erase(in_flight.begin());
        End& e = *ends[to];
        wire.segment.payload = wire.payload;
        if (wire.segment.has(kTcpRst)) ++e.resets_seen;
        if (!e.connection && to == 1 && wire.segment.has(kTcpSyn)) {
          e.connection.emplace(config, e.budget, wire.segment, static_cast<std::uint32_t>(random()), now);
          e.connection->host_connected(now, e);
        } else if (e.connection && !e.done) {
          e.connection->on_segment(wire.segment, now, e);
        }
      }
      for (End* e : ends) {
        if (e->connection && !e->done) e->connection->on_timer(now, *e);
      }
    }
    FAIL() << "the exchange does not come to rest";
  }

  Connection::Config config{.mss = 1000, .max_segment = 1000};
  Instant now{1'000'000'000};
  Duration delay = microseconds(100);
  unsigned loss_percent = 0;
  unsigned duplicate_percent = 0;
  unsigned reorder_percent = 0;
  std::uint64_t count = 0;
  std::multimap<Instant, std::pair<int, Wire>> in_flight;

 private:
  std::uint64_t seed_;
};

void End::send_segment(const TcpOutput& out) { pipe_.send(side_, out); }

struct Net {
  Pipe pipe;
  End a;
  End b;
  explicit Net(std::uint64_t seed = 42) : pipe(seed), a(pipe, 0), b(pipe, 1) {}
  void dial() {
    a.connection.emplace(pipe.config, a.budget, static_cast<std::uint32_t>(pipe.random()), pipe.now);
    a.connection->start(pipe.now, a);
  }
  static Bytes pattern(std::size_t size, std::uint8_t salt) {
    Bytes out(size);
    for (std::size_t i = 0; i < size; ++i) out[i] = static_cast<std::uint8_t>(i * 7 + i / 251 + salt);
    return out;
  }
};

TEST(Connection, CleanPipe_BothDirections_ArriveWhole) {
  Net net;
  net.a.to_send = Net::pattern(300'000, 1);
  net.b.to_send = Net::pattern(5'000'000, 2);
  net.dial();
  net.pipe.run(net.a, net.b, seconds(60));
  EXPECT_EQ(net.b.received, net.a.to_send);
  EXPECT_EQ(net.a.received, net.b.to_send);
  EXPECT_TRUE(net.a.eof && net.b.eof && net.a.done && net.b.done);
  EXPECT_EQ(net.a.connection->retransmits() + net.b.connection->retransmits(), 0U);
  EXPECT_EQ(net.a.budget.used + net.b.budget.used, 0U);
}

TEST(Connection, TroubledPipes_StillArriveWhole) {
  for (std::uint64_t seed = 1; seed <= 40; ++seed) {
    Net net(seed * 7919);
    net.pipe.loss_percent = static_cast<unsigned>(seed % 4) * 5;
    net.pipe.duplicate_percent = static_cast<unsigned>(seed % 3) * 10;
    net.pipe.reorder_percent = static_cast<unsigned>(seed % 5) * 8;
    net.a.to_send = Net::pattern(40'000, 3);
    net.b.to_send = Net::pattern(60'000, 4);
    net.dial();
    net.pipe.run(net.a, net.b, seconds(3600));
    if (net.a.was_aborted || net.b.was_aborted)
      continue;  // a lost last acknowledgment may end in silence, not in damage
    EXPECT_EQ(net.b.received, net.a.to_send) << seed;
    EXPECT_EQ(net.a.received, net.b.to_send) << seed;
  }
}

TEST(Connection, ZeroWindow_StallsAndResumes) {
  Net net;
  net.a.to_send = Net::pattern(3'000'000, 5);
  net.b.appetite = 1000;
  net.dial();
  net.pipe.run(net.a, net.b, seconds(300));
  EXPECT_FALSE(net.a.done) << "a closed window is not a death";
  EXPECT_EQ(net.b.received.size(), 1000U);
  EXPECT_LE(net.b.budget.used, RingBuffer::kLargest);
  net.b.appetite = SIZE_MAX;
  net.b.connection->host_writable(net.pipe.now, net.b);
  net.pipe.run(net.a, net.b, seconds(300));
  EXPECT_EQ(net.b.received, net.a.to_send);
}

TEST(Connection, HalfClose_OtherDirectionGoesOn) {
  Net net;
  net.b.close_after = false;
  net.dial();
  net.pipe.run(net.a, net.b, seconds(5));
  EXPECT_TRUE(net.b.eof);
  EXPECT_FALSE(net.a.done);
  net.b.to_send = Net::pattern(100'000, 6);
  net.b.close_after = true;
  net.pipe.run(net.a, net.b, seconds(5));
  EXPECT_EQ(net.a.received, net.b.to_send);
  EXPECT_TRUE(net.a.done && net.b.done);
}

TEST(Connection, Reset_TravelsAtOnce_BlindOnesDoNot) {
  Net net;
  net.a.close_after = net.b.close_after = false;
  net.dial();
  net.pipe.run(net.a, net.b, seconds(1));
  TcpSegment blind;
  blind.flags = kTcpRst;
  blind.sequence = 0x12345678;
  net.b.connection->on_segment(blind, net.pipe.now, net.b);
  EXPECT_FALSE(net.b.done);
  net.a.connection->reset(net.a);
  net.pipe.run(net.a, net.b, seconds(1));
  EXPECT_TRUE(net.b.was_aborted && net.b.done);
}

TEST(Connection, Refused_SynIsAnsweredByReset) {
  Net net;
  TcpSegment syn;
  syn.flags = kTcpSyn;
  syn.sequence = 77;
  net.b.connection.emplace(net.pipe.config, net.b.budget, syn, 1U, net.pipe.now);
  net.b.connection->reset(net.b);
  ASSERT_EQ(net.pipe.in_flight.size(), 1U);
  const Wire& wire = net.pipe.in_flight.begin()->second.second;
  EXPECT_EQ(wire.segment.flags, kTcpRst | kTcpAck);
  EXPECT_EQ(wire.segment.acknowledgment, 78U);
}

TEST(Connection, SimultaneousOpen_Connects) {
  Net net;
  net.a.to_send = net.b.to_send = Net::pattern(5000, 7);
  net.b.connection.emplace(net.pipe.config, net.b.budget, 5U, net.pipe.now);
  net.dial();
  net.b.connection->start(net.pipe.now, net.b);
  net.pipe.run(net.a, net.b, seconds(60));
  EXPECT_EQ(net.a.received, net.b.to_send);
  EXPECT_EQ(net.b.received, net.a.to_send);
}

TEST(Connection, SilentPeer_IsGivenUp) {
  Net net;
  net.pipe.loss_percent = 100;
  net.dial();
  net.pipe.run(net.a, net.b, seconds(3600));
  EXPECT_TRUE(net.a.was_aborted && net.a.done);
  EXPECT_LE(net.pipe.count, 8U);
}

TEST(Connection, LinkFull_DataWaitsForIt) {
  Net net;
  net.b.to_send = Net::pattern(50'000, 8);
  net.dial();
  net.b.link_open = false;
  net.pipe.run(net.a, net.b, seconds(1));
  EXPECT_TRUE(net.a.received.empty());
  EXPECT_TRUE(net.b.connection->wants_output());
  net.b.link_open = true;
  net.b.connection->output_ready(net.pipe.now, net.b);
  net.pipe.run(net.a, net.b, seconds(10));
  EXPECT_EQ(net.a.received, net.b.to_send);
}

TEST(Connection, IdleForHours_KeepAliveHolds) {
  Net net;
  net.a.close_after = net.b.close_after = false;
  net.dial();
  net.pipe.run(net.a, net.b, std::chrono::hours(24));
  EXPECT_FALSE(net.a.done || net.b.done);
  EXPECT_LT(net.pipe.count, 200U);
}

TEST(Connection, BudgetSpent_NothingIsLostOrKept) {
  Net net;
  net.b.budget.limit = 32 * 1024;
  net.b.appetite = 0;
  net.a.to_send = Net::pattern(500'000, 9);
  net.dial();
  net.pipe.run(net.a, net.b, seconds(30));
  EXPECT_LE(net.b.budget.used, net.b.budget.limit);
  net.b.appetite = SIZE_MAX;
  for (int i = 0; i < 200 && net.b.received.size() < net.a.to_send.size(); ++i) {
    net.b.connection->host_writable(net.pipe.now, net.b);
    net.pipe.run(net.a, net.b, seconds(2));
  }
  EXPECT_EQ(net.b.received, net.a.to_send);
}

// An owner that can take more as soon as it has taken something, and says so from within deliver().
class Eager final : public ConnectionIo {
 public:
  void send_segment(const TcpOutput& /*segment*/) override {}
  bool can_send() const override { return true; }
  std::size_t deliver(ByteView bytes) override {
    received += std::string(as_text(bytes));
    ++deliveries;
    if (connection != nullptr) connection->host_writable(Instant{}, *this);
    return bytes.size();
  }
  void deliver_eof() override {}
  void opened() override {}
  void aborted() override {}
  void finished() override {}
  Connection* connection = nullptr;
  std::string received;
  int deliveries = 0;
};

TEST(Connection, SmallSegmentsOfABatch_AreDeliveredOnceAndTogether) {
  BufferBudget budget;
  TcpSegment segment;
  segment.sequence = 100;
  segment.flags = kTcpSyn;
  segment.window = 1000;
  Connection connection(Connection::Config{}, budget, segment, 5000, Instant{});
  Eager io;
  connection.host_connected(Instant{}, io);
  segment.flags = kTcpAck;
  segment.acknowledgment = 5001;
  segment.sequence = 101;
  connection.on_segment(segment, Instant{}, io);
  io.connection = &connection;
  for (const char* text : {"one ", "two ", "three"}) {
    segment.payload = as_bytes(text);
    connection.on_segment(segment, Instant{}, io);
    segment.sequence += static_cast<std::uint32_t>(segment.payload.size());
  }
  EXPECT_EQ(io.received, "");
  EXPECT_TRUE(connection.wants_end_batch());
  connection.end_batch(io);
  EXPECT_EQ(io.received, "one two three");
  EXPECT_EQ(io.deliveries, 1);
  EXPECT_FALSE(connection.wants_end_batch());
  EXPECT_EQ(budget.used, 0U);
}

// What a host says before the guest has answered waits for the guest, one piece of it, and then goes first.
TEST(ConnectionEarlyData, AHostThatSpeaksFirstIsHeardBeforeTheGuestAnswers) {
  class Io final : public ConnectionIo {
   public:
    void send_segment(const TcpOutput& out) override {
      flags.push_back(out.flags);
      for (const ByteView part : out.payload) text.append(part.begin(), part.end());
    }
    bool can_send() const override { return true; }
    std::size_t deliver(ByteView bytes) override { return bytes.size(); }
    void deliver_eof() override {}
    void opened() override {}
    void aborted() override {}
    void finished() override {}
    std::vector<std::uint8_t> flags;
    std::string text;
  } io;
  BufferBudget budget;
  TcpSegment syn;
  syn.sequence = 100;
  syn.flags = kTcpSyn;
  syn.window = 65000;
  Connection connection({}, budget, syn, 5000, Instant{1});
  EXPECT_TRUE(connection.host_buffer().empty()) << "while the host is being dialled";
  connection.host_connected(Instant{2}, io);
  const MutableBytes room = connection.host_buffer();
  ASSERT_GE(room.size(), 5U);
  std::copy_n("hello", 5, room.begin());
  connection.host_received(5, Instant{3}, io);
  EXPECT_TRUE(connection.send_buffer_full());
  EXPECT_TRUE(connection.host_buffer().empty());
  connection.host_eof(Instant{3}, io);
  EXPECT_EQ(io.text, "");
  TcpSegment ack;
  ack.sequence = 101;
  ack.acknowledgment = 5001;
  ack.flags = kTcpAck;
  ack.window = 65000;
  connection.on_segment(ack, Instant{4}, io);
  EXPECT_EQ(io.text, "hello");
  EXPECT_NE(io.flags.back() & kTcpFin, 0);
  EXPECT_FALSE(connection.guest_has_all());
  ack.acknowledgment = 5007;
  connection.on_segment(ack, Instant{5}, io);
  EXPECT_TRUE(connection.guest_has_all());
}

}  // namespace
}  // namespace msb::net
