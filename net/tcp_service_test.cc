// SPDX-License-Identifier: Apache-2.0
// What connections leave behind in the process that carried them.
#include "net/tcp_service.h"

#include <gtest/gtest.h>
#include <malloc.h>

#include <cstring>

#include "net/net_process.h"
#include "net/wire/checksum.h"

namespace msb::net {
namespace {

// What the heap has given out; 0 where the allocator does not count.
std::size_t heap_bytes() {
  const struct mallinfo2 info = ::mallinfo2();
  return info.uordblks + info.hblkhd;
}

const IpAddress kGuest = *IpAddress::parse("172.16.0.2");
const IpAddress kGateway = *IpAddress::parse("172.16.0.1");

// The guest's end of the link without a socket: what is sent to the guest is only looked at.
class FakePort final : public FramePort {
 public:
  Status start(Handlers handlers) override {
    handlers_ = std::move(handlers);
    return {};
  }
  bool vnet_hdr() const override { return true; }
  bool can_send() const override { return true; }
  bool send(std::span<const ByteView> parts, const VnetHeader& header) override {
    (void)parts;
    (void)header;
    ++counters_.frames_out;
    return true;
  }
  void flush() override {}
  void set_reading(bool on) override { (void)on; }
  const FramePortCounters& counters() const override { return counters_; }

  void take(ByteView frame) {
    VnetHeader header;
    header.flags = VnetHeader::kNeedsChecksum;
    header.checksum_start = static_cast<std::uint16_t>(sizeof(EthernetHeader) + sizeof(Ipv4Header));
    header.checksum_offset = std::uint16_t{16};
    handlers_.on_frame(frame, header);
    handlers_.on_batch_end();
  }

 private:
  Handlers handlers_;
  FramePortCounters counters_;
};

class TcpServiceTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto loop = EventLoop::create();
    ASSERT_TRUE(loop.ok());
    loop_ = std::move(loop).value();
    auto spec = proto::NetSpec::parse(
        R"({"version":1,"guest":{"ipv4":{"address":"172.16.0.2","prefix":30,"gateway":"172.16.0.1"}},)"
        R"("vnet_hdr":true,"policy":{},"dns":{"upstreams":["127.0.0.1:1"]}})");
    ASSERT_TRUE(spec.ok()) << spec.error().text;
    auto port = std::make_unique<FakePort>();
    port_ = port.get();
    NetProcess::Parts parts;
    parts.port = std::move(port);
    parts.host_addresses = std::vector<IpPrefix>{*IpPrefix::parse("127.0.0.0/8")};
    auto process = NetProcess::create(*loop_, *spec, std::move(parts));
    ASSERT_TRUE(process.ok()) << process.error().text;
    process_ = std::move(process).value();
    guest_ = spec->guest;
    ASSERT_TRUE(process_->start([](const Status&) {}).ok());
  }

  // A segment to the resolver, which msb-net answers by itself: no socket of this machine's takes part.
  void segment(std::uint16_t source_port, std::uint32_t sequence, std::uint8_t flags) {
    ByteWriter frame;
    EthernetHeader ethernet;
    ethernet.destination = guest_.gateway_mac;
    ethernet.source = guest_.mac;
    ethernet.type = kEtherTypeIpv4;
    frame.put(ethernet);
    TcpHeader tcp;
    tcp.source_port = source_port;
    tcp.destination_port = std::uint16_t{53};
    tcp.sequence = sequence;
    tcp.offset = std::uint8_t{5 << 4};
    tcp.flags = flags;
    tcp.window = std::uint16_t{65535};
    put_ip_header(frame, kGuest, kGateway, kIpProtocolTcp, sizeof tcp);
    frame.put(tcp);
    port_->take(frame.view());
  }

  void open_and_drop(int count) {
    for (int i = 0; i < count; ++i) {
      const auto port = static_cast<std::uint16_t>(1024 + i % 60000);
      segment(port, 1000, kTcpSyn);
      segment(port, 1001, kTcpRst);
    }
  }

  std::unique_ptr<EventLoop> loop_;
  std::unique_ptr<NetProcess> process_;
  proto::NetGuestSpec guest_;
  FakePort* port_ = nullptr;
};

TEST_F(TcpServiceTest, ConnectionsThatEndLeaveNoMemoryBehind) {
  open_and_drop(1000);
  const std::uint64_t answered = port_->counters().frames_out;
  EXPECT_EQ(answered, 1000U);  // one SYN,ACK each
  const std::size_t before = heap_bytes();
  open_and_drop(30000);
  const std::size_t after = heap_bytes();
  EXPECT_EQ(port_->counters().frames_out - answered, 30000U);
  if (before == 0) GTEST_SKIP() << "this allocator does not count";
  EXPECT_LT(after, before + 16384) << "more than half a byte for each connection that is over";
}

}  // namespace
}  // namespace msb::net
