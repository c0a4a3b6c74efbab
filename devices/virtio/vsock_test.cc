// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/vsock.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <map>

#include "devices/virtio/status.h"
#include "devices/virtio/testing/fake_driver.h"

namespace msb::devices {
namespace {

using testing::Buffer;
using testing::FakeDriver;

constexpr std::uint16_t kRx = 0;
constexpr std::uint16_t kTx = 1;
constexpr std::uint16_t kEvents = 2;
constexpr std::uint32_t kCid = 3;
constexpr std::uint32_t kGuestWindow = 64 * 1024;

struct Packet {
  VsockHeader header;
  Bytes payload;
  [[nodiscard]] VsockOp op() const { return static_cast<VsockOp>(header.op.get()); }
};

class Connector final : public HostConnector {
 public:
  void connect(std::uint32_t port, Done done) override {
    ports.push_back(port);
    if (defer) {
      pending.push_back(std::move(done));
    } else {
      answer(std::move(done));
    }
  }
  void answer(Done done) {
    if (refuse) return done(make_error(Errc::kPermission, "not allowed"));
    int fds[2];
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    peer.reset(fds[0]);
    done(UniqueFd(fds[1]));
  }
  bool refuse = false;
  bool defer = false;
  UniqueFd peer;
  std::vector<std::uint32_t> ports;
  std::vector<Done> pending;
};

class VsockTest : public ::testing::Test {
 protected:
  void SetUp() override { make({}); }
  void make(Vsock::Options options) {
    driver_.reset();
    vsock_.reset();
    loop_ = std::move(EventLoop::create()).value();
    UniqueFd listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    // An abstract address of the kernel's choice: no file, no name clash.
    sockaddr_un any{};
    any.sun_family = AF_UNIX;
    ASSERT_EQ(::bind(listener.get(), reinterpret_cast<sockaddr*>(&any), sizeof any.sun_family), 0);
    ASSERT_EQ(::listen(listener.get(), 64), 0);
    address_length_ = sizeof address_;
    ASSERT_EQ(::getsockname(listener.get(), reinterpret_cast<sockaddr*>(&address_), &address_length_), 0);
    vsock_ = std::make_unique<Vsock>(*loop_, std::move(listener), &connector_, options);
    driver_ = std::make_unique<FakeDriver>(*vsock_);
  }
  void start(int buffers = 64) {
    driver_->start();
    give_buffers(buffers);
  }
  void give_buffers(int count, std::uint32_t size = 4096) {
    for (int i = 0; i < count; ++i) {
      const Buffer buffer = driver_->writable(size);
      receive_[driver_->add(kRx, {buffer})] = buffer;
    }
    driver_->kick(kRx);
    driver_->pump();
  }
  // Packets for the guest since the last call; their buffers go back to the device.
  std::vector<Packet> packets(bool give_back = true) {
    driver_->pump();
    std::vector<Packet> out;
    std::vector<Buffer> free;
    for (const testing::Used& used : driver_->take_used(kRx)) {
      const Buffer buffer = receive_.at(static_cast<std::uint16_t>(used.head));
      Packet packet;
      Bytes bytes = driver_->bytes(buffer.address, used.length);
      EXPECT_GE(used.length, sizeof packet.header);
      packet.header = *ByteReader(bytes).take<VsockHeader>();
      packet.payload.assign(bytes.begin() + sizeof packet.header, bytes.end());
      EXPECT_EQ(packet.header.length.get(), packet.payload.size());
      out.push_back(std::move(packet));
      free.push_back(buffer);
    }
    if (!give_back) free.clear();
    // Only now: adding reuses descriptors of those just read.
    for (const Buffer& buffer : free) receive_[driver_->add(kRx, {buffer})] = buffer;
    if (give_back && !out.empty()) driver_->kick(kRx);
    return out;
  }
  void send(std::uint32_t host_port, std::uint32_t guest_port, VsockOp op, ByteView payload = {},
            std::uint32_t flags = 0, std::uint32_t fwd_cnt = 0, std::uint32_t window = kGuestWindow,
            std::optional<std::uint32_t> length = {}, std::uint16_t type = 1) {
    const VsockHeader header{Le64(kCid),
                             Le64(2),
                             Le32(guest_port),
                             Le32(host_port),
                             Le32(length.value_or(static_cast<std::uint32_t>(payload.size()))),
                             Le16(type),
                             Le16(static_cast<std::uint16_t>(op)),
                             Le32(flags),
                             Le32(window),
                             Le32(fwd_cnt)};
    ByteWriter writer;
    writer.put(header);
    std::vector<Buffer> chain{driver_->readable(writer.view())};
    if (!payload.empty()) chain.push_back(driver_->readable(payload));
    driver_->run(kTx, chain);
  }
  UniqueFd client() {
    UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    EXPECT_EQ(::connect(fd.get(), reinterpret_cast<sockaddr*>(&address_), address_length_), 0);
    EXPECT_EQ(::fcntl(fd.get(), F_SETFL, O_NONBLOCK), 0);
    return fd;
  }
  void say(const UniqueFd& fd, std::string_view text) {
    ASSERT_EQ(::send(fd.get(), text.data(), text.size(), MSG_NOSIGNAL), static_cast<ssize_t>(text.size()));
    driver_->pump();
  }
  // What is readable now; "<eof>" at its end when the other side is closed.
  std::string hear(const UniqueFd& fd) {
    driver_->pump();
    std::string out;
    char buffer[65536];
    for (;;) {
      const ssize_t got = ::recv(fd.get(), buffer, sizeof buffer, 0);
      if (got > 0) {
        out.append(buffer, static_cast<std::size_t>(got));
        driver_->pump(2);
        continue;
      }
      if (got == 0 || errno == ECONNRESET) out += "<eof>";
      return out;
    }
  }
  // A host client connected to guest port 1024.
  struct Stream {
    UniqueFd fd;
    std::uint32_t host_port;
  };
  Stream connect_client(std::uint32_t port = 1024) {
    Stream stream{client(), 0};
    say(stream.fd, "CONNECT " + std::to_string(port) + "\n");
    const auto request = packets();
    EXPECT_EQ(request.size(), 1u);
    EXPECT_EQ(request[0].op(), VsockOp::kRequest);
    EXPECT_EQ(request[0].header.destination_port.get(), port);
    stream.host_port = request[0].header.source_port.get();
    send(stream.host_port, port, VsockOp::kResponse);
    EXPECT_EQ(hear(stream.fd), "OK " + std::to_string(stream.host_port) + "\n");
    return stream;
  }
  UniqueFd connect_guest(std::uint32_t guest_port = 5000) {
    send(1, guest_port, VsockOp::kRequest);
    const auto response = packets();
    EXPECT_EQ(response.size(), 1u);
    EXPECT_EQ(response[0].op(), VsockOp::kResponse);
    EXPECT_EQ(response[0].header.buf_alloc.get(), 256u * 1024);
    return std::move(connector_.peer);
  }
  [[nodiscard]] std::uint64_t live() const { return vsock_->counters().connections.load(); }

  Connector connector_;
  std::unique_ptr<EventLoop> loop_;
  std::unique_ptr<Vsock> vsock_;
  std::unique_ptr<FakeDriver> driver_;
  std::map<std::uint16_t, Buffer> receive_;
  sockaddr_un address_{};
  socklen_t address_length_ = 0;
};

TEST_F(VsockTest, Config_HasTheGuestCid) {
  EXPECT_EQ(driver_->config(0, 8), (Bytes{3, 0, 0, 0, 0, 0, 0, 0}));
}

TEST_F(VsockTest, HostClient_ConnectsAndExchangesBytes) {
  start();
  Stream s = connect_client();
  say(s.fd, "hello guest");
  auto got = packets();
  ASSERT_EQ(got.size(), 1u);
  EXPECT_EQ(got[0].op(), VsockOp::kData);
  EXPECT_EQ(as_text(got[0].payload), "hello guest");
  send(s.host_port, 1024, VsockOp::kData, as_bytes("hello host"));
  EXPECT_EQ(hear(s.fd), "hello host");
}

TEST_F(VsockTest, HostClient_PipelinesAfterConnectLine_NothingIsLostOrEatenEarly) {
  start();
  UniqueFd fd = client();
  say(fd, "CONN");
  say(fd, "ECT 7\nearly ");
  const auto request = packets();
  ASSERT_EQ(request.size(), 1u);
  EXPECT_EQ(request[0].op(), VsockOp::kRequest);
  say(fd, "bytes");
  EXPECT_TRUE(packets().empty());
  send(request[0].header.source_port.get(), 7, VsockOp::kResponse);
  const auto data = packets();
  ASSERT_EQ(data.size(), 1u);
  EXPECT_EQ(as_text(data[0].payload), "early bytes");
}

TEST_F(VsockTest, Handshake_Garbage_ClosesTheClientOnly) {
  start();
  for (const char* line :
       {"CONNECT \n", "CONNECT 12x\n", "CONNECT 4294967296\n", "CONNECT -1\n", "GET / HTTP/1.1\r\n",
        "connect 1\n", "\n", "CONNECT 11111111111111111111111111111111111111111111"}) {
    UniqueFd fd = client();
    say(fd, line);
    EXPECT_EQ(hear(fd), "<eof>") << line;
  }
  EXPECT_TRUE(packets().empty());
  EXPECT_EQ(live(), 0u);
}

TEST_F(VsockTest, Handshake_TooMany_OldestGoes) {
  make({.max_handshakes = 2});
  start();
  UniqueFd a = client();
  UniqueFd b = client();
  driver_->pump();
  UniqueFd c = client();
  EXPECT_EQ(hear(a), "<eof>");
  EXPECT_EQ(hear(b), "");
  say(c, "CONNECT 5\n");
  EXPECT_EQ(packets().size(), 1u);
}

TEST_F(VsockTest, GuestRefuses_ClientIsClosed) {
  start();
  UniqueFd fd = client();
  say(fd, "CONNECT 9\n");
  const auto request = packets();
  send(request[0].header.source_port.get(), 9, VsockOp::kReset);
  EXPECT_EQ(hear(fd), "<eof>");
  EXPECT_TRUE(packets().empty());
}

TEST_F(VsockTest, ClientLeavesBeforeAnswer_GuestIsToldByReset) {
  start();
  UniqueFd fd = client();
  say(fd, "CONNECT 9\n");
  ASSERT_EQ(packets().size(), 1u);
  fd.reset();
  const auto got = packets();
  ASSERT_EQ(got.size(), 1u);
  EXPECT_EQ(got[0].op(), VsockOp::kReset);
  EXPECT_EQ(live(), 0u);
}

TEST_F(VsockTest, GuestConnects_WhereAllowed) {
  start();
  UniqueFd host = connect_guest();
  EXPECT_EQ(connector_.ports, (std::vector<std::uint32_t>{1}));
  send(1, 5000, VsockOp::kData, as_bytes("ready"));
  EXPECT_EQ(hear(host), "ready");
}

TEST_F(VsockTest, GuestConnects_Refused_GetsReset) {
  start();
  connector_.refuse = true;
  send(80, 5000, VsockOp::kRequest);
  const auto got = packets();
  ASSERT_EQ(got.size(), 1u);
  EXPECT_EQ(got[0].op(), VsockOp::kReset);
  EXPECT_EQ(got[0].header.source_port.get(), 80u);
  EXPECT_EQ(live(), 0u);
}

TEST_F(VsockTest, GuestConnects_AnswerComesAfterReset_IsDropped) {
  start();
  connector_.defer = true;
  send(1, 5000, VsockOp::kRequest);
  driver_->reset();
  driver_->pump();
  connector_.answer(std::move(connector_.pending[0]));
  EXPECT_EQ(hear(connector_.peer), "<eof>");
}

TEST_F(VsockTest, GuestConnects_AnswerComesAfterTheDevice_IsDropped) {
  start();
  connector_.defer = true;
  send(1, 5000, VsockOp::kRequest);
  driver_.reset();
  vsock_.reset();
  connector_.answer(std::move(connector_.pending[0]));
  char byte = 0;
  EXPECT_EQ(::recv(connector_.peer.get(), &byte, 1, 0), 0);
}

TEST_F(VsockTest, StrayPackets_GetReset_ResetsDoNot) {
  start();
  send(4, 5, VsockOp::kData, as_bytes("x"));
  send(4, 6, VsockOp::kReset);
  send(4, 7, VsockOp::kRequest, {}, 0, 0, 0, {}, 2);
  const auto got = packets();
  ASSERT_EQ(got.size(), 2u);
  EXPECT_EQ(got[0].op(), VsockOp::kReset);
  EXPECT_EQ(got[0].header.destination_port.get(), 5u);
  EXPECT_EQ(got[1].header.type.get(), 2u);
}

TEST_F(VsockTest, StrayFlood_WithoutReceiveBuffers_StallsTheSenderAndRecovers) {
  driver_->start();
  const VsockHeader header{Le64(kCid), Le64(2), Le32(5), Le32(4), Le32(0),
                           Le16(1),    Le16(5), Le32(0), Le32(0), Le32(0)};
  ByteWriter writer;
  writer.put(header);
  for (int i = 0; i < 200; ++i) driver_->add(kTx, {driver_->readable(writer.view())});
  driver_->kick(kTx);
  driver_->pump(20);
  EXPECT_EQ(driver_->take_used(kTx).size(), 64u);
  give_buffers(200);
  EXPECT_EQ(driver_->wait_used(kTx, 136).size(), 136u);
  EXPECT_EQ(packets().size(), 200u);
}

TEST_F(VsockTest, Credit_HostStopsAtTheGuestsWindow) {
  start();
  Stream s = connect_client();
  const std::string data(100'000, 'x');
  say(s.fd, data);
  std::size_t total = 0;
  for (const Packet& packet : packets()) total += packet.payload.size();
  for (const Packet& packet : packets()) total += packet.payload.size();
  EXPECT_EQ(total, kGuestWindow);
  send(s.host_port, 1024, VsockOp::kCreditUpdate, {}, 0, kGuestWindow);
  for (const Packet& packet : packets()) total += packet.payload.size();
  EXPECT_EQ(total, data.size());
}

TEST_F(VsockTest, Credit_AcrossTheCounterWrap) {
  start();
  Stream s = connect_client();
  std::uint32_t forwarded = 0;
  std::uint64_t total = 0;
  const std::string block(32768, 'y');
  // The guest claims impossible counts first: no credit, no crash.
  send(s.host_port, 1024, VsockOp::kCreditUpdate, {}, 0, 0x8000'0000u, 0xffff'ffffu);
  send(s.host_port, 1024, VsockOp::kCreditUpdate, {}, 0, 0);
  for (int i = 0; i < 20; ++i) {
    say(s.fd, block);
    for (const Packet& packet : packets()) total += packet.payload.size();
    forwarded = static_cast<std::uint32_t>(total);
    send(s.host_port, 1024, VsockOp::kCreditUpdate, {}, 0, forwarded);
  }
  EXPECT_EQ(total, 20u * 32768);
}

TEST_F(VsockTest, GuestFillsTheWindow_SlowClientGetsAllBytes) {
  start();
  UniqueFd host = connect_guest();
  std::string sent;
  Bytes block(60'000);
  std::uint32_t window = 256 * 1024;
  std::uint64_t acknowledged = 0;
  for (int i = 0; i < 200; ++i) {
    for (const Packet& packet : packets()) acknowledged = packet.header.fwd_cnt.get();
    if (sent.size() - acknowledged + block.size() > window) break;
    for (auto& byte : block) byte = static_cast<std::uint8_t>(sent.size() * 31);
    send(1, 5000, VsockOp::kData, block);
    sent += as_text(block);
  }
  EXPECT_LT(sent.size(), 200u * 60'000);
  EXPECT_TRUE(hear(host) == sent);
  // Draining gave the credit back without being asked.
  const auto updates = packets();
  ASSERT_FALSE(updates.empty());
  EXPECT_EQ(updates.back().op(), VsockOp::kCreditUpdate);
}

TEST_F(VsockTest, GuestExceedsTheWindow_IsReset) {
  start();
  UniqueFd host = connect_guest();
  const Bytes block(65536);
  bool reset = false;
  for (int i = 0; i < 50 && !reset; ++i) {
    send(1, 5000, VsockOp::kData, block);
    for (const Packet& packet : packets()) reset = reset || packet.op() == VsockOp::kReset;
  }
  EXPECT_TRUE(reset);
}

TEST_F(VsockTest, OneStalledClient_DoesNotStallAnother) {
  start();
  UniqueFd stalled = connect_guest(5000);
  UniqueFd lively = connect_guest(5001);
  const Bytes block(60'000);
  for (int i = 0; i < 4; ++i) send(1, 5000, VsockOp::kData, block);
  send(1, 5001, VsockOp::kData, as_bytes("still here"));
  EXPECT_EQ(hear(lively), "still here");
}

TEST_F(VsockTest, NoReceiveBuffers_ConnectionsWaitInTurn) {
  start(1);
  Stream a = connect_client();
  Stream b = connect_client();
  // One buffer is there: use it up, then let both wait.
  say(a.fd, "1");
  say(a.fd, "2");
  say(b.fd, "3");
  std::string seen;
  for (int i = 0; i < 6; ++i) {
    for (const Packet& packet : packets()) seen += as_text(packet.payload);
  }
  EXPECT_EQ(seen.size(), 3u);
  EXPECT_NE(seen.find('3'), std::string::npos);
}

TEST_F(VsockTest, LengthBeyondTheBuffer_IsReset) {
  start();
  UniqueFd host = connect_guest();
  send(1, 5000, VsockOp::kData, as_bytes("abc"), 0, 0, kGuestWindow, 4);
  const auto got = packets();
  ASSERT_EQ(got.size(), 1u);
  EXPECT_EQ(got[0].op(), VsockOp::kReset);
  EXPECT_EQ(hear(host), "<eof>");
}

TEST_F(VsockTest, HostHalfCloses_GuestMayStillSend) {
  start();
  Stream s = connect_client();
  say(s.fd, "last");
  ASSERT_EQ(::shutdown(s.fd.get(), SHUT_WR), 0);
  const auto got = packets();
  ASSERT_EQ(got.size(), 2u);
  EXPECT_EQ(as_text(got[0].payload), "last");
  EXPECT_EQ(got[1].op(), VsockOp::kShutdown);
  EXPECT_EQ(got[1].header.flags.get(), kVsockShutSend);
  send(s.host_port, 1024, VsockOp::kData, as_bytes("answer"));
  EXPECT_EQ(hear(s.fd), "answer");
  // Then it goes for good, and the guest hears that too.
  s.fd.reset();
  const auto end = packets();
  ASSERT_EQ(end.size(), 1u);
  EXPECT_EQ(end[0].op(), VsockOp::kShutdown);
  EXPECT_EQ(end[0].header.flags.get(), kVsockShutBoth);
  send(s.host_port, 1024, VsockOp::kReset);
  EXPECT_EQ(live(), 0u);
}

TEST_F(VsockTest, HostCloses_DataFirstThenShutdownThenTimeout) {
  make({.close_timeout = std::chrono::microseconds(100)});
  start();
  Stream s = connect_client();
  say(s.fd, "last words");
  s.fd.reset();
  std::vector<VsockOp> ops;
  for (int i = 0; i < 200 && (ops.empty() || ops.back() != VsockOp::kReset); ++i) {
    for (const Packet& packet : packets()) ops.push_back(packet.op());
  }
  EXPECT_EQ(ops, (std::vector<VsockOp>{VsockOp::kData, VsockOp::kShutdown, VsockOp::kReset}));
  EXPECT_EQ(live(), 0u);
}

TEST_F(VsockTest, HostClosesWhileGuestHasNoCredit_GuestHearsAndNothingSpins) {
  start();
  Stream s = connect_client();
  say(s.fd, std::string(kGuestWindow + 10, 'z'));
  while (!packets().empty()) {
  }
  s.fd.reset();
  const auto got = packets();
  ASSERT_EQ(got.size(), 1u);
  EXPECT_EQ(got[0].op(), VsockOp::kShutdown);
  EXPECT_EQ(got[0].header.flags.get(), kVsockShutReceive);
  // No event is left that would wake the loop again and again.
  driver_->pump();
  const Instant before = loop_->now();
  ASSERT_TRUE(loop_->run_once(std::chrono::milliseconds(20)).ok());
  EXPECT_GE((loop_->now() - before).count(), 19'000'000);
  // The rest is delivered when there is credit.
  send(s.host_port, 1024, VsockOp::kCreditUpdate, {}, 0, kGuestWindow);
  const auto rest = packets();
  ASSERT_EQ(rest.size(), 2u);
  EXPECT_EQ(rest[0].payload.size(), 10u);
  EXPECT_EQ(rest[1].header.flags.get(), kVsockShutBoth);
}

TEST_F(VsockTest, GuestHalfCloses_ClientReadsEndAndMayStillSend) {
  start();
  Stream s = connect_client();
  send(s.host_port, 1024, VsockOp::kData, as_bytes("end"));
  send(s.host_port, 1024, VsockOp::kShutdown, {}, kVsockShutSend);
  EXPECT_EQ(hear(s.fd), "end<eof>");
  say(s.fd, "more");
  const auto got = packets();
  ASSERT_EQ(got.size(), 1u);
  EXPECT_EQ(as_text(got[0].payload), "more");
}

TEST_F(VsockTest, GuestCloses_ResetComesBackAtOnce) {
  start();
  Stream s = connect_client();
  send(s.host_port, 1024, VsockOp::kShutdown, {}, kVsockShutBoth);
  const auto got = packets();
  ASSERT_EQ(got.size(), 1u);
  EXPECT_EQ(got[0].op(), VsockOp::kReset);
  EXPECT_EQ(hear(s.fd), "<eof>");
  EXPECT_EQ(live(), 0u);
}

TEST_F(VsockTest, GuestGivesUpWhileClientIsSlow_KeptBytesLinger) {
  start();
  UniqueFd host = connect_guest();
  std::string sent;
  for (int i = 0; i < 4; ++i) {
    Bytes block(60'000, static_cast<std::uint8_t>('a' + i));
    send(1, 5000, VsockOp::kData, block);
    sent += as_text(block);
  }
  packets();
  // Fill until something must be kept.
  std::uint64_t acknowledged = 0;
  while (acknowledged == 0 || sent.size() - acknowledged + 60'000 < 256 * 1024) {
    Bytes block(60'000, 'k');
    send(1, 5000, VsockOp::kData, block);
    sent += as_text(block);
    send(1, 5000, VsockOp::kCreditRequest);
    for (const Packet& packet : packets()) acknowledged = packet.header.fwd_cnt.get();
  }
  ASSERT_LT(acknowledged, sent.size());
  send(1, 5000, VsockOp::kShutdown, {}, kVsockShutBoth);
  EXPECT_TRUE(packets().empty());
  send(1, 5000, VsockOp::kReset);
  EXPECT_EQ(live(), 1u);
  EXPECT_TRUE(hear(host) == sent + "<eof>");
  EXPECT_EQ(live(), 0u);
}

TEST_F(VsockTest, RequestOnALiveConnection_IsReset) {
  start();
  UniqueFd host = connect_guest();
  send(1, 5000, VsockOp::kRequest);
  const auto got = packets();
  ASSERT_EQ(got.size(), 1u);
  EXPECT_EQ(got[0].op(), VsockOp::kReset);
}

TEST_F(VsockTest, Limit_RefusesTheNextAndRecovers) {
  make({.max_connections = 2});
  start();
  UniqueFd a = connect_guest(1);
  UniqueFd b = connect_guest(2);
  send(1, 3, VsockOp::kRequest);
  EXPECT_EQ(packets().at(0).op(), VsockOp::kReset);
  UniqueFd fd = client();
  EXPECT_EQ(hear(fd), "<eof>");
  send(1, 1, VsockOp::kReset);
  UniqueFd c = connect_guest(4);
  EXPECT_TRUE(c.valid());
}

TEST_F(VsockTest, ThousandsOfConnections_LeaveNothing) {
  make({});
  driver_->start();
  give_buffers(16, 512);
  for (int i = 0; i < 3000; ++i) {
    const auto port = static_cast<std::uint32_t>(10'000 + i % 7);
    ASSERT_EQ(live(), 0u);
    UniqueFd host = connect_guest(port);
    send(1, port, VsockOp::kShutdown, {}, kVsockShutBoth);
    ASSERT_EQ(packets().at(0).op(), VsockOp::kReset);
  }
  EXPECT_EQ(vsock_->counters().opened.load(), 3000u);
}

TEST_F(VsockTest, Reset_ClosesEverythingAndStartsAfresh) {
  start();
  Stream s = connect_client();
  UniqueFd host = connect_guest();
  UniqueFd handshake = client();
  driver_->pump();
  driver_->reset();
  EXPECT_EQ(hear(s.fd), "<eof>");
  EXPECT_EQ(hear(host), "<eof>");
  EXPECT_EQ(hear(handshake), "<eof>");
  // Clients that come meanwhile wait for the next driver.
  UniqueFd early = client();
  EXPECT_EQ(hear(early), "");
  start();
  say(early, "CONNECT 3\n");
  EXPECT_EQ(packets().size(), 1u);
}

TEST_F(VsockTest, PauseAndResume_StreamsGoOn) {
  start();
  Stream s = connect_client();
  driver_->transport().pause();
  say(s.fd, "while paused");
  EXPECT_TRUE(driver_->take_used(kRx).empty());
  const Instant before = loop_->now();
  ASSERT_TRUE(loop_->run_once(std::chrono::milliseconds(10)).ok());
  EXPECT_GE((loop_->now() - before).count(), 9'000'000);
  driver_->transport().resume();
  const auto got = packets();
  ASSERT_EQ(got.size(), 1u);
  EXPECT_EQ(as_text(got[0].payload), "while paused");
}

TEST_F(VsockTest, Restore_TellsTheGuestBeforeAnythingElse) {
  start();
  const Buffer event = driver_->writable(8);
  driver_->add(kEvents, {event});
  driver_->kick(kEvents);
  driver_->pump();
  driver_->transport().pause();
  const MmioState state = driver_->transport().save();
  // The same guest memory under a fresh device, as after a restore.
  UniqueFd listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  sockaddr_un any{};
  any.sun_family = AF_UNIX;
  ASSERT_EQ(::bind(listener.get(), reinterpret_cast<sockaddr*>(&any), sizeof any.sun_family), 0);
  ASSERT_EQ(::listen(listener.get(), 8), 0);
  socklen_t length = sizeof address_;
  ASSERT_EQ(::getsockname(listener.get(), reinterpret_cast<sockaddr*>(&address_), &length), 0);
  Vsock fresh(*loop_, std::move(listener), &connector_, {});
  testing::CountingIrq irq;
  auto transport = std::move(MmioTransport::create(fresh, driver_->memory(), irq)).value();
  ASSERT_TRUE(transport->restore(state).ok());
  UniqueFd fd = client();
  ASSERT_EQ(::send(fd.get(), "CONNECT 4\n", 10, 0), 10);
  transport->resume();
  const auto used = driver_->wait_used(kEvents);
  ASSERT_EQ(used.size(), 1u);
  EXPECT_EQ(used[0].length, 4u);
  EXPECT_EQ(driver_->bytes(event.address, 4), Bytes(4));
  const auto got = packets(false);
  ASSERT_EQ(got.size(), 1u);
  EXPECT_EQ(got[0].op(), VsockOp::kRequest);
  EXPECT_GT(irq.count(), 0u);
}

TEST_F(VsockTest, TinyReceiveBuffer_NeedsReset) {
  driver_->start();
  give_buffers(1, 44);
  UniqueFd fd = client();
  say(fd, "CONNECT 1\n");
  EXPECT_NE(driver_->status() & kStatusNeedsReset, 0u);
}

}  // namespace
}  // namespace msb::devices
