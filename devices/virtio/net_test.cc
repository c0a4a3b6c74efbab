// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/net.h"

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <map>

#include "devices/virtio/status.h"
#include "devices/virtio/testing/fake_driver.h"

namespace msb::devices {
namespace {

using testing::Buffer;
using testing::FakeDriver;

constexpr std::uint64_t bit(unsigned n) { return std::uint64_t{1} << n; }
constexpr std::uint64_t kMergeable = bit(15);
constexpr std::uint64_t kOffloads = bit(0) | bit(1) | bit(7) | bit(8) | bit(9) | bit(11) | bit(12) | bit(13);
constexpr std::uint16_t kRx = 0;
constexpr std::uint16_t kTx = 1;

class NetTest : public ::testing::Test {
 protected:
  void make(Net::Framing framing = Net::Framing::kPlain) {
    driver_.reset();
    net_.reset();
    int fds[2];
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    peer_.reset(fds[0]);
    loop_ = std::move(EventLoop::create()).value();
    net_ = std::make_unique<Net>(*loop_, UniqueFd(fds[1]),
                                 Net::Options{.mac = {2, 1, 2, 3, 4, 5}, .mtu = 9000, .framing = framing});
    driver_ = std::make_unique<FakeDriver>(*net_);
  }
  Bytes frame(std::size_t size, std::uint8_t seed = 0) {
    Bytes out(size);
    for (std::size_t i = 0; i < size; ++i) out[i] = static_cast<std::uint8_t>(i * 7 + i / 256 + seed);
    return out;
  }
  static Bytes framed(ByteView frame) {
    ByteWriter writer;
    writer.put(Be32(static_cast<std::uint32_t>(frame.size())));
    writer.put_bytes(frame);
    return std::move(writer).take();
  }
  static Bytes with_header(ByteView frame, Bytes header = Bytes(12)) {
    header.insert(header.end(), frame.begin(), frame.end());
    return header;
  }
  void peer_says(ByteView bytes) {
    while (!bytes.empty()) {
      const ssize_t sent = ::send(peer_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent > 0) bytes = bytes.subspan(static_cast<std::size_t>(sent));
      driver_->pump(2);
      ASSERT_TRUE(sent > 0 || errno == EAGAIN);
    }
    driver_->pump();
  }
  Bytes peer_hears() {
    Bytes out;
    Bytes buffer(65536);
    for (int idle = 0; idle < 3;) {
      driver_->pump(2);
      const ssize_t got = ::recv(peer_.get(), buffer.data(), buffer.size(), 0);
      if (got <= 0) {
        ++idle;
        continue;
      }
      out.insert(out.end(), buffer.begin(), buffer.begin() + got);
    }
    return out;
  }
  void give(int count, std::uint32_t size) {
    for (int i = 0; i < count; ++i) {
      const Buffer buffer = driver_->writable(size);
      buffers_[driver_->add(kRx, {buffer})] = buffer;
    }
    driver_->kick(kRx);
    driver_->pump();
  }
  // All frames delivered to the guest, header included; each takes num_buffers buffers.
  std::vector<Bytes> guest_frames() {
    driver_->pump();
    std::vector<Bytes> out;
    const auto used = driver_->take_used(kRx);
    for (std::size_t i = 0; i < used.size();) {
      Bytes whole;
      std::size_t parts = 1;
      for (std::size_t p = 0; p < parts && i < used.size(); ++p, ++i) {
        const Bytes piece = driver_->bytes(buffers_.at(used[i].head).address, used[i].length);
        whole.insert(whole.end(), piece.begin(), piece.end());
        if (p == 0) parts = whole.at(10) + whole.at(11) * std::size_t{256};
      }
      out.push_back(std::move(whole));
    }
    return out;
  }
  [[nodiscard]] bool link_up() { return driver_->config(6, 1)[0] == 1; }

  UniqueFd peer_;
  std::unique_ptr<EventLoop> loop_;
  std::unique_ptr<Net> net_;
  std::unique_ptr<FakeDriver> driver_;
  std::map<std::uint32_t, Buffer> buffers_;
};

TEST_F(NetTest, Config_MacStatusMtu) {
  make();
  EXPECT_EQ(driver_->config(0, 12), (Bytes{2, 1, 2, 3, 4, 5, 1, 0, 1, 0, 0x28, 0x23}));
}

TEST_F(NetTest, PlainPeer_OffersNoOffloads) {
  make();
  EXPECT_EQ(driver_->offered() & kOffloads, 0u);
  make(Net::Framing::kVirtioHeader);
  EXPECT_EQ(driver_->offered() & kOffloads, kOffloads);
}

TEST_F(NetTest, SenselessFeatures_Refused) {
  make(Net::Framing::kVirtioHeader);
  driver_->start(bit(1));  // TSO towards the guest without its checksum
  EXPECT_EQ(driver_->status() & kStatusFeaturesOk, 0u);
}

TEST_F(NetTest, GuestFrame_PlainFraming_HeaderIsCutOff) {
  make();
  driver_->start();
  const Bytes data = frame(60);
  driver_->run(kTx, {driver_->readable(Bytes(12)), driver_->readable(data)});
  EXPECT_EQ(peer_hears(), framed(data));
}

TEST_F(NetTest, GuestFrame_VirtioFraming_HeaderGoesAlong) {
  make(Net::Framing::kVirtioHeader);
  driver_->start();
  const Bytes data = frame(60000);
  const Bytes header{1, 1, 54, 0, 0x64, 5, 34, 0, 16, 0, 0, 0};
  driver_->run(kTx, {driver_->readable(header), driver_->readable(data)});
  EXPECT_EQ(peer_hears(), framed(with_header(data, header)));
}

TEST_F(NetTest, BadGuestFrames_AreDroppedAlone) {
  make();
  driver_->start();
  const Buffer header = driver_->readable(Bytes(12));
  const Buffer big = driver_->readable(Bytes(60000));
  driver_->add(kTx, {header});
  driver_->add(kTx, {header, driver_->readable(frame(60, 1))});
  driver_->add(kTx, {driver_->readable(Bytes(3))});
  driver_->add(kTx, {header, big, big});
  driver_->add(kTx, {header, driver_->readable(frame(60, 2))});
  driver_->kick(kTx);
  EXPECT_EQ(driver_->wait_used(kTx, 5).size(), 5u);
  Bytes expected = framed(frame(60, 1));
  const Bytes second = framed(frame(60, 2));
  expected.insert(expected.end(), second.begin(), second.end());
  EXPECT_EQ(peer_hears(), expected);
  EXPECT_EQ(net_->counters().from_guest_dropped.load(), 3u);
}

TEST_F(NetTest, SlowPeer_FramesWaitAndArriveWhole) {
  make();
  driver_->start();
  Bytes expected;
  for (int i = 0; i < 60; ++i) {
    const Bytes data = frame(30'000, static_cast<std::uint8_t>(i));
    driver_->add(kTx, {driver_->readable(Bytes(12)), driver_->readable(data)});
    const Bytes wire = framed(data);
    expected.insert(expected.end(), wire.begin(), wire.end());
  }
  driver_->kick(kTx);
  driver_->pump(50);
  const std::size_t early = driver_->take_used(kTx).size();
  EXPECT_GT(early, 0u);
  EXPECT_LT(early, 60u);
  EXPECT_TRUE(peer_hears() == expected);
  EXPECT_EQ(driver_->take_used(kTx).size(), 60u - early);
}

TEST_F(NetTest, ResetInTheMiddleOfAFrame_StreamStaysInStep) {
  make();
  driver_->start();
  for (int i = 0; i < 60; ++i) {
    driver_->add(kTx, {driver_->readable(Bytes(12)), driver_->readable(frame(30'000))});
  }
  driver_->kick(kTx);
  driver_->pump(50);
  driver_->reset();
  driver_->start();
  driver_->add(kTx, {driver_->readable(Bytes(12)), driver_->readable(frame(64, 9))});
  driver_->kick(kTx);
  const Bytes heard = peer_hears();
  // Whole frames only, the new one last.
  ByteReader reader(heard);
  std::vector<std::size_t> sizes;
  while (const auto length = reader.take<Be32>()) {
    ASSERT_TRUE(reader.skip(length->get()));
    sizes.push_back(length->get());
  }
  EXPECT_TRUE(reader.empty());
  ASSERT_GT(sizes.size(), 2u);
  EXPECT_EQ(sizes.back(), 64u);
  EXPECT_EQ(sizes[sizes.size() - 2], 30'000u);
}

TEST_F(NetTest, PeerFrame_Mergeable_SpansBuffers) {
  make();
  driver_->start();
  give(10, 100);
  const Bytes data = frame(250);
  peer_says(framed(data));
  const auto frames = guest_frames();
  ASSERT_EQ(frames.size(), 1u);
  Bytes expected(12);
  expected[10] = 3;
  EXPECT_EQ(frames[0], with_header(data, expected));
}

TEST_F(NetTest, PeerFrames_InTinyPieces_AreAssembled) {
  make();
  driver_->start();
  give(10, 2048);
  Bytes wire = framed(frame(100, 1));
  const Bytes more = framed(frame(200, 2));
  wire.insert(wire.end(), more.begin(), more.end());
  for (std::size_t i = 0; i < wire.size(); i += 3) {
    peer_says(ByteView(wire).subspan(i, std::min<std::size_t>(3, wire.size() - i)));
  }
  const auto frames = guest_frames();
  ASSERT_EQ(frames.size(), 2u);
  EXPECT_EQ(frames[1].size(), 212u);
}

TEST_F(NetTest, NoGuestBuffers_FramesWaitWithoutSpinning) {
  make();
  driver_->start();
  const Bytes data = frame(1000);
  peer_says(framed(data));
  peer_says(framed(data));
  EXPECT_TRUE(guest_frames().empty());
  driver_->pump();
  const Instant before = loop_->now();
  ASSERT_TRUE(loop_->run_once(std::chrono::milliseconds(10)).ok());
  EXPECT_GE((loop_->now() - before).count(), 9'000'000);
  give(1, 600);
  EXPECT_TRUE(guest_frames().empty());
  give(3, 600);
  EXPECT_EQ(guest_frames().size(), 2u);
}

TEST_F(NetTest, NotMergeable_TooSmallBuffer_DropsTheFrameOnly) {
  make();
  driver_->start(kMergeable);
  give(1, 100);
  give(1, 2000);
  peer_says(framed(frame(500)));
  EXPECT_EQ(net_->counters().to_guest_dropped.load(), 1u);
  peer_says(framed(frame(60)));
  EXPECT_EQ(guest_frames().size(), 1u);
}

TEST_F(NetTest, GuestWithoutChecksum_GetsItCompleted) {
  make(Net::Framing::kVirtioHeader);
  driver_->start(kOffloads);
  Bytes data = frame(60);
  data[50] = data[51] = 0;
  const Bytes header{1, 0, 0, 0, 0, 0, 34, 0, 16, 0, 0, 0};
  // Twice around for want of buffers: it must be completed once.
  peer_says(framed(with_header(data, header)));
  give(2, 2000);
  const auto frames = guest_frames();
  ASSERT_EQ(frames.size(), 1u);
  EXPECT_EQ(frames[0][0], 0);
  std::uint32_t sum = 0;
  for (std::size_t i = 12 + 34; i < frames[0].size(); i += 2) sum += frames[0][i] * 256u + frames[0][i + 1];
  while (sum >> 16 != 0) sum = (sum & 0xffff) + (sum >> 16);
  EXPECT_EQ(sum, 0xffffu);
}

TEST_F(NetTest, SegmentationTheGuestDidNotTake_IsDropped) {
  make(Net::Framing::kVirtioHeader);
  driver_->start(kOffloads);
  give(4, 2000);
  Bytes header(12);
  header[1] = 1;
  peer_says(framed(with_header(frame(100), header)));
  header[1] = 77;
  peer_says(framed(with_header(frame(100), header)));
  peer_says(framed(Bytes(5 + 12)));
  EXPECT_TRUE(guest_frames().empty());
  EXPECT_EQ(net_->counters().to_guest_dropped.load(), 3u);
}

TEST_F(NetTest, PeerLeaves_LinkGoesDownAndGuestFramesAreDropped) {
  make();
  driver_->start();
  const std::uint64_t before = driver_->irq().count();
  peer_.reset();
  driver_->pump();
  EXPECT_FALSE(link_up());
  EXPECT_GT(driver_->irq().count(), before);
  driver_->run(kTx, {driver_->readable(Bytes(12)), driver_->readable(frame(60))});
  EXPECT_EQ(net_->counters().from_guest_dropped.load(), 1u);
}

TEST_F(NetTest, PeerBreaksTheFraming_LinkGoesDown) {
  make();
  driver_->start();
  peer_says(Bytes{0xff, 0xff, 0xff, 0xff, 0});
  EXPECT_FALSE(link_up());
}

TEST_F(NetTest, ReceiveBufferTooSmallForAHeader_NeedsReset) {
  make();
  driver_->start();
  give(1, 11);
  peer_says(framed(frame(60)));
  EXPECT_NE(driver_->status() & kStatusNeedsReset, 0u);
  driver_->reset();
  driver_->start();
  give(1, 2000);
  EXPECT_EQ(guest_frames().size(), 1u);
}

TEST_F(NetTest, PauseAndResume_FramesGoOn) {
  make();
  driver_->start();
  give(2, 2000);
  driver_->transport().pause();
  peer_says(framed(frame(60)));
  EXPECT_TRUE(guest_frames().empty());
  driver_->transport().resume();
  EXPECT_EQ(guest_frames().size(), 1u);
}

}  // namespace
}  // namespace msb::devices
