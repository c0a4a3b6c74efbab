// SPDX-License-Identifier: Apache-2.0
// Whole sequences of frames into all of msb-net, as a hostile guest sends them, mixed with what the host side
// does. The policy lets the guest reach one listener of this program on loopback and nothing else; no other
// packet leaves.
//
// The input is a list of actions, each an operation byte and its arguments (see Guest::act). Frames are made
// right enough to get past the first checks where the operation says so; a raw frame is taken as it comes.
// The batch of frames goes on after an operation above 127.
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <cstring>
#include <map>

#include "base/json.h"
#include "base/log.h"
#include "net/net_process.h"

namespace {

using namespace msb;       // NOLINT: a fuzz target is one file
using namespace msb::net;  // NOLINT

constexpr std::uint16_t kGuestPort = 8080;
const IpAddress kGuest4 = *IpAddress::parse("172.16.0.2");
const IpAddress kGate4 = *IpAddress::parse("172.16.0.1");
const IpAddress kGuest6 = *IpAddress::parse("fd42:6d73:62::2");
const IpAddress kGate6 = *IpAddress::parse("fd42:6d73:62::1");

template <typename T>
T must(Result<T> result) {
  if (!result) {
    std::fprintf(stderr, "%s\n", result.error().text.c_str());
    std::abort();
  }
  return std::move(result).value();
}

// A listener for the guest to dial; what arrives is thrown away.
class Listener {
 public:
  Listener() : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (::bind(fd_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) std::abort();
    if (::listen(fd_.get(), 64) != 0) std::abort();
    socklen_t length = sizeof address;
    (void)::getsockname(fd_.get(), reinterpret_cast<sockaddr*>(&address), &length);
    port_ = ntohs(address.sin_port);
  }
  [[nodiscard]] std::uint16_t port() const { return port_; }
  UniqueFd accept() { return UniqueFd(::accept4(fd_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC)); }

 private:
  UniqueFd fd_;
  std::uint16_t port_ = 0;
};

Listener& listener() {
  static Listener one;
  return one;
}

std::string spec_text() {
  const std::string port = std::to_string(listener().port());
  return R"({"version":1,"guest":{"ipv4":{"address":"172.16.0.2","prefix":30,"gateway":"172.16.0.1"},)"
         R"("ipv6":{"address":"fd42:6d73:62::2","prefix":64,"gateway":"fd42:6d73:62::1"}},"vnet_hdr":true,)"
         R"("policy":{"default_egress":"deny","rules":["allow@host:tcp:)" +
         port + R"(","allow@host:udp:)" + port +
         R"(","allow@host:icmpv4","allow@host:icmpv6","deny@never.test"],"strict":false},)" +
         R"("dns":{"upstreams":["127.0.0.1:)" + port + R"("]},"ports":["127.0.0.1:0:8080"],)" +
         R"("limits":{"max_connections":16,"max_total_bytes":4000000,"buffer_bytes":1048576}})";
}

class Input {
 public:
  Input(const std::uint8_t* data, std::size_t size) : rest_(data, size) {}
  [[nodiscard]] bool empty() const { return rest_.empty(); }
  std::uint8_t byte() { return rest_.empty() ? std::uint8_t{0} : take(1)[0]; }
  ByteView take(std::size_t count) {
    const ByteView out = rest_.first(std::min(count, rest_.size()));
    rest_ = rest_.subspan(out.size());
    return out;
  }

 private:
  ByteView rest_;
};

// The guest's end of the link without a socket: frames are handed over and collected in place. The framing of
// the real one has a target of its own, frame_port_fuzz.cc.
class FakePort final : public FramePort {
 public:
  Status start(Handlers handlers) override {
    handlers_ = std::move(handlers);
    return {};
  }
  bool vnet_hdr() const override { return true; }
  bool can_send() const override { return true; }
  bool send(std::span<const ByteView> parts, const VnetHeader&) override {
    Bytes& frame = sent_.emplace_back();
    for (const ByteView part : parts) frame.insert(frame.end(), part.begin(), part.end());
    return true;
  }
  void flush() override {}
  void set_reading(bool) override {}
  const FramePortCounters& counters() const override { return counters_; }

  void take(ByteView frame, const VnetHeader& header) { handlers_.on_frame(frame, header); }
  void end_batch() { handlers_.on_batch_end(); }
  std::vector<Bytes> take_sent() { return std::exchange(sent_, {}); }

 private:
  Handlers handlers_;
  FramePortCounters counters_;
  std::vector<Bytes> sent_;
};

class Guest {
 public:
  Guest() : loop_(must(EventLoop::create())), spec_(must(proto::NetSpec::parse(spec_text()))) {
    auto port = std::make_unique<FakePort>();
    port_ = port.get();
    NetProcess::Parts parts;
    parts.port = std::move(port);
    parts.host_addresses =
        std::vector<IpPrefix>{*IpPrefix::parse("127.0.0.0/8"), *IpPrefix::parse("::1/128")};
    process_ = must(NetProcess::create(*loop_, spec_, std::move(parts)));
    if (!process_->start([](const Status&) {})) std::abort();
    const JsonDocument ready = must(JsonDocument::parse(process_->ready_json()));
    published_ = static_cast<std::uint16_t>(
        must(must(must(ready.root().at("ports")).elements()).at(0).get_uint("host", 65535)));
  }

  void act(Input& input) {
    const std::uint8_t operation = input.byte();
    switch (operation % 10) {
      case 0:
        raw(input);
        break;
      case 1:
      case 2:
      case 3:
        tcp(input);
        break;
      case 4:
        udp(input);
        break;
      case 5:
        echo(input);
        break;
      case 6:
        host_side(input.byte());
        break;
      case 7:
        dial_guest();
        break;
      case 8:
        control(input.byte());
        break;
      default:
        packet(input);
        break;
    }
    if (operation < 0x80) step();
  }
  // The batch of frames ends, everything on the host's side that is ready happens, and what came back is
  // read.
  void step() {
    port_->end_batch();
    if (!loop_->run_once(Duration{0})) std::abort();
    for (const Bytes& frame : port_->take_sent()) on_frame(frame);
  }
  void check() {
    const JsonDocument stats = must(JsonDocument::parse(must(process_->control(R"({"op":"stats"})"))));
    const JsonView tcp = must(stats.root().at("tcp"));
    if (must(tcp.get_uint("buffer_bytes")) > (1U << 20) || must(tcp.get_uint("flows")) > 16) std::abort();
  }

 private:
  void send_ethernet(std::uint16_t type, ByteView payload, const VnetHeader& vnet) {
    ByteWriter out;
    EthernetHeader ethernet;
    ethernet.destination = spec_.guest.gateway_mac;
    ethernet.source = spec_.guest.mac;
    ethernet.type = type;
    out.put(ethernet);
    out.put_bytes(payload);
    port_->take(out.view(), vnet);
  }
  // An upper-layer payload behind right headers; its checksum is said to be left to the receiver.
  void send_ip(bool v6, std::uint8_t protocol, ByteView payload) {
    ByteWriter out;
    put_ip_header(out, v6 ? kGuest6 : kGuest4, v6 ? kGate6 : kGate4, protocol, payload.size());
    out.put_bytes(payload);
    VnetHeader vnet;
    vnet.flags = VnetHeader::kNeedsChecksum;
    vnet.checksum_start = static_cast<std::uint16_t>(v6 ? 54 : 34);
    send_ethernet(v6 ? kEtherTypeIpv6 : kEtherTypeIpv4, out.view(), vnet);
  }

  void raw(Input& input) {
    VnetHeader vnet;
    vnet.flags = input.byte();
    vnet.gso_type = input.byte();
    vnet.checksum_start = input.byte();
    const std::size_t length = input.byte() * 8U;
    port_->take(input.take(length), vnet);
  }
  // Behind right MAC addresses: ARP, DHCP, neighbour discovery, extension headers, fragments.
  void packet(Input& input) {
    constexpr std::array<std::uint16_t, 4> kTypes{kEtherTypeArp, kEtherTypeIpv4, kEtherTypeIpv6, 0x1234};
    const std::uint16_t type = kTypes[input.byte() % 4];
    VnetHeader vnet;
    vnet.flags = VnetHeader::kNeedsChecksum;
    vnet.checksum_start = 14;
    const std::size_t length = input.byte() * 4U;
    send_ethernet(type, input.take(length), vnet);
  }
  void tcp(Input& input) {
    const std::uint8_t which = input.byte();
    const auto port = static_cast<std::uint16_t>(1000 + which % 8);
    const bool v6 = (which & 8) != 0;
    const bool answer_inbound = (which & 16) != 0 && inbound_peer_ != 0;
    TcpHeader header;
    header.source_port = answer_inbound ? kGuestPort : port;
    header.destination_port = answer_inbound      ? inbound_peer_
                              : (which & 32) != 0 ? std::uint16_t{53}
                                                  : listener().port();
    Flow& flow = flows_[Key{v6, header.source_port.get(), header.destination_port.get()}];
    header.flags = input.byte();
    header.sequence = flow.next + static_cast<std::uint32_t>(static_cast<std::int8_t>(input.byte()));
    header.acknowledgment = flow.ack + static_cast<std::uint32_t>(static_cast<std::int8_t>(input.byte()));
    header.window = static_cast<std::uint16_t>(input.byte() * 256U);
    const ByteView payload = input.take(input.byte() * 4U);
    ByteWriter out;
    out.put(header);
    out.put_bytes(payload);
    if (header.sequence.get() == flow.next) {
      flow.next += static_cast<std::uint32_t>(payload.size());
      if ((header.flags & (kTcpSyn | kTcpFin)) != 0) ++flow.next;
    }
    send_ip(v6, kIpProtocolTcp, out.view());
  }
  void udp(Input& input) {
    const std::uint8_t which = input.byte();
    UdpHeader header;
    header.source_port = static_cast<std::uint16_t>(2000 + which % 8);
    header.destination_port = (which & 16) != 0 ? std::uint16_t{53} : listener().port();
    const ByteView payload = input.take(input.byte() * 4U);
    header.length = static_cast<std::uint16_t>(sizeof header + payload.size());
    ByteWriter out;
    out.put(header);
    out.put_bytes(payload);
    send_ip((which & 8) != 0, kIpProtocolUdp, out.view());
  }
  void echo(Input& input) {
    const std::uint8_t which = input.byte();
    const bool v6 = (which & 1) != 0;
    const Bytes packet =
        make_icmp(v6 ? kGuest6 : kGuest4, v6 ? kGate6 : kGate4, v6 ? kIcmpv6EchoRequest : kIcmpEchoRequest, 0,
                  which, input.take(input.byte()));
    send_ethernet(v6 ? kEtherTypeIpv6 : kEtherTypeIpv4, packet, {});
  }
  void host_side(std::uint8_t what) {
    if (UniqueFd client = listener().accept()) clients_.push_back(std::move(client));
    if (clients_.empty()) return;
    const std::size_t index = what % clients_.size();
    const int fd = clients_[index].get();
    std::array<std::uint8_t, 4096> buffer{};
    switch (what >> 6) {
      case 0:
        (void)::recv(fd, buffer.data(), buffer.size(), MSG_DONTWAIT);
        break;
      case 1:
        (void)::send(fd, buffer.data(), buffer.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
        break;
      case 2:
        (void)::shutdown(fd, SHUT_WR);
        break;
      default:
        clients_.erase(clients_.begin() + static_cast<std::ptrdiff_t>(index));
    }
  }
  void dial_guest() {
    UniqueFd client(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(published_);
    (void)::connect(client.get(), reinterpret_cast<sockaddr*>(&address), sizeof address);
    clients_.push_back(std::move(client));
  }
  void control(std::uint8_t what) {
    const std::string host = "allow@host:tcp:" + std::to_string(listener().port());
    const std::array<std::string, 5> requests{
        R"({"op":"policy","policy":{"profiles":["none"]}})",
        R"({"op":"policy","policy":{"default_egress":"deny","rules":[")" + host + R"("]}})",
        R"({"op":"policy","policy":{"default_egress":"deny","rules":["deny@host.msb.internal",")" + host +
            R"("]}})",
        R"({"op":"explain","target":"172.16.0.1:80"})", R"({"op":"ports"})"};
    (void)process_->control(requests[what % requests.size()]).ok();
  }
  // What msb-net sends tells the sequence numbers that it expects, and who dials.
  void on_frame(ByteView packet) {
    if (packet.size() < sizeof(EthernetHeader)) std::abort();
    const std::uint16_t type = static_cast<std::uint16_t>(packet[12] * 256U + packet[13]);
    if (type == kEtherTypeArp) return;
    IpPacket parsed;
    const bool v6 = type == kEtherTypeIpv6;
    const ByteView ip = packet.subspan(sizeof(EthernetHeader));
    // What goes to the guest is always a good packet.
    if ((v6 ? parse_ipv6(ip, parsed) : parse_ipv4(ip, parsed)) != Drop::kNone) std::abort();
    TcpSegment segment;
    if (parsed.protocol != kIpProtocolTcp || parse_tcp(parsed, Checksum::kTrusted, segment) != Drop::kNone)
      return;
    const bool syn = segment.has(kTcpSyn);
    if (syn && !segment.has(kTcpAck)) inbound_peer_ = segment.source_port;
    Flow& flow = flows_[Key{v6, segment.destination_port, segment.source_port}];
    flow.ack = segment.sequence + static_cast<std::uint32_t>(segment.payload.size()) +
               (syn || segment.has(kTcpFin) ? 1U : 0U);
  }

  struct Key {
    bool v6;
    std::uint16_t mine;
    std::uint16_t theirs;
    friend auto operator<=>(const Key&, const Key&) = default;
  };
  struct Flow {
    std::uint32_t next = 0xffffff00;
    std::uint32_t ack = 0;
  };
  std::unique_ptr<EventLoop> loop_;
  proto::NetSpec spec_;
  std::unique_ptr<NetProcess> process_;
  FakePort* port_;  // of process_
  std::uint16_t published_ = 0;
  std::uint16_t inbound_peer_ = 0;
  std::map<Key, Flow> flows_;
  std::vector<UniqueFd> clients_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const bool quiet = [] {
    log_setup("frames_fuzz", LogLevel::kError);
    return true;
  }();
  (void)quiet;
  Guest guest;
  Input input(data, std::min<std::size_t>(size, 8192));
  while (!input.empty()) guest.act(input);
  guest.step();
  guest.check();
  return 0;
}
