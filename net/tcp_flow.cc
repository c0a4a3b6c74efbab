// SPDX-License-Identifier: Apache-2.0
#include "net/tcp_flow.h"

#include <sys/socket.h>

#include <algorithm>
#include <cstring>

#include "net/host_socket.h"

namespace msb::net {
namespace {
using std::chrono::milliseconds;
using std::chrono::seconds;
constexpr Duration kDialTimeout = seconds(75);
constexpr Duration kStarvedRetry = milliseconds(50);
constexpr int kReadsPerEvent = 4;
constexpr std::size_t kInspectMax = 64 * 1024;
constexpr int kMaxDnsAtOnce = 32;
constexpr std::size_t kMaxDnsMessage = 65535 + 2;
}  // namespace

Connection::Config TcpFlow::config() const {
  Connection::Config out;
  out.mss = service_.link_.mss(key_.remote.family());
  out.max_segment = service_.link_.max_segment(key_.remote.family());
  return out;
}

TcpFlow::TcpFlow(TcpService& service, const TcpService::Key& key, Kind kind, FlowRecord record,
                 const TcpSegment& syn, std::uint32_t initial)
    : service_(service),
      key_(key),
      kind_(kind),
      record_(std::move(record)),
      connection_(config(), service.budget_, syn, initial, service.loop_.now()),
      syn_sequence_(syn.sequence) {}

TcpFlow::TcpFlow(TcpService& service, const TcpService::Key& key, UniqueFd client, FlowRecord record,
                 std::uint32_t initial)
    : service_(service),
      key_(key),
      kind_(Kind::kInbound),
      record_(std::move(record)),
      connection_(config(), service.budget_, initial, service.loop_.now()),
      socket_(std::move(client)),
      phase_(Phase::kOpen) {
  tune_stream(socket_.get());
}

TcpFlow::~TcpFlow() {
  if (self_) *self_ = nullptr;
  close_socket(false);
  service_.counters_.retransmits += connection_.retransmits();
}

void TcpFlow::close_socket(bool abortive) {
  if (token_.valid()) service_.loop_.remove(token_);
  token_ = {};
  interest_ = 0;
  if (socket_ && abortive) make_abortive(socket_.get());
  socket_.reset();
  phase_ = Phase::kClosed;
}

void TcpFlow::dial(const IpAddress& target, std::uint16_t port) {
  target_ = target;
  target_port_ = port;
  dial_deadline_ = service_.loop_.now() + kDialTimeout;
  sniffing_ = record_.decision.verdict == Verdict::kAskName;
  IpAddress first = target;
  std::uint16_t first_port = port;
  const bool local = is_guarded(service_.engine_.classifier().classify(target));
  if (service_.proxy_ && !local) {
    first = service_.proxy_->spec.address.address;
    first_port = service_.proxy_->spec.address.port;
    handshake_ = std::make_unique<ProxyHandshake>(*service_.proxy_, target, port);
    if (handshake_->state() == ProxyHandshake::State::kFailed) return dial_failed(ENETUNREACH);
  }
  auto socket = open_socket(first.family(), SOCK_STREAM);
  if (!socket) return dial_failed(socket.error().sys_errno);
  socket_ = std::move(socket).value();
  tune_stream(socket_.get());
  const int error = start_connect(socket_.get(), first, first_port);
  if (error == 0)
    on_connected();
  else if (error != EINPROGRESS)
    dial_failed(error);
}

void TcpFlow::start_dns() {
  phase_ = Phase::kOpen;
  connection_.host_connected(service_.loop_.now(), *this);
}

void TcpFlow::start_inbound() { connection_.start(service_.loop_.now(), *this); }

// The guest learns what the host learnt: refused, or unreachable.
void TcpFlow::dial_failed(int error) {
  how_ = error == ECONNREFUSED ? "refused" : "unreachable";
  ++service_.counters_.refused;
  const bool unreachable = error == ENETUNREACH || error == EHOSTUNREACH || error == ETIMEDOUT ||
                           error == ENETDOWN || error == EHOSTDOWN;
  close_socket(false);
  if (!unreachable) return connection_.reset(*this);
  // Quote the guest's SYN as it must have looked.
  TcpHeader tcp;
  tcp.source_port = key_.guest_port;
  tcp.destination_port = key_.remote_port;
  tcp.sequence = syn_sequence_;
  tcp.flags = kTcpSyn;
  const IpAddress guest = service_.link_.guest_address(key_.remote.family());
  ByteWriter quoted;
  put_ip_header(quoted, guest, key_.remote, kIpProtocolTcp, sizeof tcp);
  quoted.put(tcp);
  IpPacket packet;
  packet.source = guest;
  packet.destination = key_.remote;
  packet.protocol = kIpProtocolTcp;
  packet.whole = quoted.view();
  packet.payload = quoted.view().last(sizeof tcp);
  service_.link_.send_packet(
      make_icmp_error(service_.link_.gateway(key_.remote.family()), packet,
                      error == ENETUNREACH ? Unreachable::kNetwork : Unreachable::kHost));
  connection_.forget(*this);
}

void TcpFlow::on_connected() {
  if (handshake_) {
    phase_ = Phase::kProxy;
    held_ = handshake_->take_output();
    return;
  }
  // Whatever the address was taken for: a connection from an address to itself never left this machine.
  const auto [local, local_port] = local_endpoint(socket_.get());
  const AddressClass address_class = service_.engine_.classifier().classify(record_.remote);
  if (local == target_ && !is_guarded(address_class)) {
    record_.decision = {Verdict::kDeny, -1, "the address is this machine's own"};
    return deny();
  }
  phase_ = Phase::kOpen;
  connection_.host_connected(service_.loop_.now(), *this);
}

void TcpFlow::on_proxy(std::uint32_t events) {
  if ((events & EPOLLOUT) != 0 && !held_.empty()) {
    const std::size_t sent = write_host(held_);
    held_.erase(held_.begin(), held_.begin() + static_cast<std::ptrdiff_t>(sent));
  }
  if (phase_ != Phase::kProxy || (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) == 0) return;
  std::array<std::uint8_t, 4096> buffer{};
  const ssize_t got = ::recv(socket_.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (got <= 0) return dial_failed(ECONNREFUSED);
  Bytes rest;
  const auto state = handshake_->feed(ByteView(buffer).first(static_cast<std::size_t>(got)), rest);
  if (state == ProxyHandshake::State::kFailed) return dial_failed(ECONNREFUSED);
  Bytes more = handshake_->take_output();
  held_.insert(held_.end(), more.begin(), more.end());
  if (state != ProxyHandshake::State::kDone) return;
  // A server that speaks before the guest has been told: rare, and small enough to refuse.
  if (!rest.empty()) return dial_failed(ECONNREFUSED);
  handshake_.reset();
  held_.clear();
  phase_ = Phase::kOpen;
  connection_.host_connected(service_.loop_.now(), *this);
}

void TcpFlow::on_segment(const TcpSegment& segment) {
  connection_.on_segment(segment, service_.loop_.now(), *this);
}

void TcpFlow::on_timer() {
  const Instant now = service_.loop_.now();
  if (starved_until_ && now >= *starved_until_) starved_until_.reset();
  if ((phase_ == Phase::kDialing || phase_ == Phase::kProxy) && now >= dial_deadline_)
    return dial_failed(ETIMEDOUT);
  connection_.on_timer(now, *this);
}

std::optional<Instant> TcpFlow::deadline() const {
  std::optional<Instant> out = connection_.deadline();
  if (phase_ == Phase::kDialing || phase_ == Phase::kProxy) out = dial_deadline_;
  if (starved_until_) out = out ? std::min(*out, *starved_until_) : *starved_until_;
  return out;
}

void TcpFlow::on_link_writable() { connection_.output_ready(service_.loop_.now(), *this); }

void TcpFlow::on_socket(std::uint32_t events) {
  switch (phase_) {
    case Phase::kClosed:
      return;
    case Phase::kDialing: {
      // A failure is always reported as one, so that success needs no question.
      const int error = (events & (EPOLLERR | EPOLLHUP)) != 0 ? take_socket_error(socket_.get()) : 0;
      if (error != 0)
        dial_failed(error);
      else if ((events & EPOLLOUT) != 0)
        on_connected();
      break;
    }
    case Phase::kProxy:
      on_proxy(events);
      break;
    case Phase::kOpen:
      if ((events & EPOLLOUT) != 0 ||
          ((events & (EPOLLHUP | EPOLLERR)) != 0 && (interest_ & EPOLLOUT) != 0)) {
        flush_held();
        if (!dead_ && held_.empty()) connection_.host_writable(service_.loop_.now(), *this);
      }
      if (!dead_ && (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0 && (interest_ & EPOLLIN) != 0)
        read_host((events & EPOLLRDHUP) != 0);
      break;
  }
}

// `ended`: the end of the stream is there too, behind what is left of it.
void TcpFlow::read_host(bool ended) {
  for (int round = 0; round < kReadsPerEvent && !dead_; ++round) {
    const MutableBytes room = connection_.host_buffer();
    if (room.empty()) {
      if (!connection_.send_buffer_full())
        starved_until_ = service_.loop_.now() + kStarvedRetry;  // no memory now
      return;
    }
    const ssize_t got = ::recv(socket_.get(), room.data(), room.size(), MSG_DONTWAIT);
    if (got < 0) {
      if (errno == EINTR) continue;
      if (errno == EAGAIN) return;
      how_ = "reset by host";
      ++service_.counters_.reset;
      connection_.reset(*this);
      return;
    }
    const Instant now = service_.loop_.now();
    if (got == 0) return connection_.host_eof(now, *this);
    const auto count = static_cast<std::size_t>(got);
    record_.bytes_to_guest += count;
    if (service_.engine_.charge_bytes(count)) return kill("byte budget spent");
    if (guard_ && guard_->waits_for_server()) {
      guard_->from_server(room.first(count));
      connection_.host_received(count, now, *this);
      inspect();
    } else {
      connection_.host_received(count, now, *this);
    }
    if (count < room.size() && !ended) return;
  }
}

std::size_t TcpFlow::write_host(ByteView bytes) {
  std::size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t sent =
        ::send(socket_.get(), bytes.data() + done, bytes.size() - done, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0) {
      if (errno == EINTR) continue;
      if (errno != EAGAIN) {
        how_ = "reset by host";
        ++service_.counters_.reset;
        connection_.reset(*this);
      }
      break;
    }
    done += static_cast<std::size_t>(sent);
  }
  return done;
}

std::size_t TcpFlow::deliver(ByteView bytes) {
  if (kind_ == Kind::kDns) {
    if (inspect_.size() >= kMaxDnsMessage || dns_open_ >= kMaxDnsAtOnce) return 0;
    inspect_.insert(inspect_.end(), bytes.begin(), bytes.end());
    feed_dns();
    return bytes.size();
  }
  if (phase_ != Phase::kOpen) return 0;
  std::size_t taken = 0;
  if (!sniffing_ && !guard_) {
    if (!held_.empty()) return 0;
    taken = write_host(bytes);
  } else {
    if (!held_.empty() || inspect_.size() >= kInspectMax) return 0;
    taken = std::min(bytes.size(), kInspectMax - inspect_.size());
    inspect_.insert(inspect_.end(), bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(taken));
    inspect();
  }
  record_.bytes_from_guest += taken;
  if (!dead_ && service_.engine_.charge_bytes(taken)) kill("byte budget spent");
  return taken;
}

void TcpFlow::inspect() {
  if (dead_) return;
  if (sniffing_) {
    const Sniff sniff = sniff_name(inspect_);
    if (sniff.kind == Sniff::Kind::kNeedMore && inspect_.size() < kMaxSniff) return;
    conclude(sniff);
    if (dead_ || sniffing_) return;
  }
  std::size_t pass = inspect_.size();
  if (guard_ && guard_->from_guest(inspect_, pass) == HttpGuard::Result::kDenied) {
    record_.evidence = NameEvidence::kAmbiguous;
    record_.decision = {Verdict::kDeny, record_.decision.rule,
                        "a later request is for another host or unclear"};
    return deny();
  }
  held_.insert(held_.end(), inspect_.begin(), inspect_.begin() + static_cast<std::ptrdiff_t>(pass));
  if (pass == inspect_.size())
    inspect_ = Bytes();
  else
    inspect_.erase(inspect_.begin(), inspect_.begin() + static_cast<std::ptrdiff_t>(pass));
  flush_held();
}

// The flow has shown what it is: judge again, by name.
void TcpFlow::conclude(const Sniff& sniff) {
  switch (sniff.kind) {
    case Sniff::Kind::kTls:
    case Sniff::Kind::kHttp:
      record_.evidence = sniff.name ? NameEvidence::kName : NameEvidence::kNone;
      record_.shown_name = sniff.name;
      break;
    case Sniff::Kind::kOpaque:
      record_.evidence = NameEvidence::kOpaque;
      break;
    case Sniff::Kind::kNeedMore:
    case Sniff::Kind::kAmbiguous:
      record_.evidence = NameEvidence::kAmbiguous;
      break;
  }
  service_.engine_.rejudge(record_);
  if (record_.decision.verdict != Verdict::kAllow) return deny();
  sniffing_ = false;
  if (sniff.kind == Sniff::Kind::kHttp && sniff.name && !service_.engine_.policy().observe())
    guard_.emplace(*sniff.name);
  noted_ = true;
  service_.engine_.note_allowed(record_);
}

void TcpFlow::deny() {
  ++service_.counters_.denied;
  if (record_.decision.verdict != Verdict::kDeny) record_.decision.verdict = Verdict::kDeny;
  service_.engine_.note_denied(record_);
  kill("denied");
}

void TcpFlow::kill(const char* how) {
  if (dead_) return;
  how_ = how;
  close_socket(true);
  connection_.reset(*this);
}

void TcpFlow::rejudge() {
  if (dead_ || kind_ == Kind::kDns) return;
  if (record_.evidence == NameEvidence::kPending && !sniffing_ && !record_.ingress) {
    // Its first bytes are long gone; what cannot be confirmed any more counts as opaque.
    record_.evidence = NameEvidence::kOpaque;
  }
  service_.engine_.rejudge(record_);
  if (record_.decision.verdict == Verdict::kDeny) deny();
}

void TcpFlow::flush_held() {
  if (held_.empty() || phase_ != Phase::kOpen) return;
  const std::size_t sent = write_host(held_);
  if (dead_) return;
  if (sent == held_.size())
    held_ = Bytes();
  else
    held_.erase(held_.begin(), held_.begin() + static_cast<std::ptrdiff_t>(sent));
  if (held_.empty() && inspect_.empty() && eof_waiting_) {
    eof_waiting_ = false;
    deliver_eof();
  }
}

void TcpFlow::deliver_eof() {
  if (kind_ == Kind::kDns) {
    if (dns_open_ == 0)
      connection_.host_eof(service_.loop_.now(), *this);
    else
      eof_waiting_ = true;
    return;
  }
  if (phase_ != Phase::kOpen) return;
  if (sniffing_) {
    conclude({inspect_.empty() ? Sniff::Kind::kOpaque : Sniff::Kind::kAmbiguous, std::nullopt});
    if (dead_) return;
    inspect();
    if (dead_) return;
  }
  if (!held_.empty()) {
    eof_waiting_ = true;
    return;
  }
  // What the guard has not passed by now is half a request; it goes nowhere.
  shut_ = true;
  if (connection_.guest_has_all()) return;  // both directions are over: the socket is closed next
  (void)::shutdown(socket_.get(), SHUT_WR);
}

void TcpFlow::feed_dns() {
  if (feeding_) return;  // a reply from the cache came at once: the loop below goes on
  feeding_ = true;
  if (!self_) self_ = std::make_shared<TcpFlow*>(this);
  while (inspect_.size() >= 2 && dns_open_ < kMaxDnsAtOnce) {
    const std::size_t length = static_cast<std::size_t>(inspect_[0] << 8 | inspect_[1]);
    if (inspect_.size() - 2 < length) break;
    const Bytes message(inspect_.begin() + 2, inspect_.begin() + static_cast<std::ptrdiff_t>(2 + length));
    inspect_.erase(inspect_.begin(), inspect_.begin() + static_cast<std::ptrdiff_t>(2 + length));
    ++dns_open_;
    service_.dns_.query(message, DnsProxy::Transport::kTcp, [self = self_](Bytes reply) {
      TcpFlow* flow = *self;
      if (flow == nullptr || flow->dead_) return;
      --flow->dns_open_;
      const Instant now = flow->service_.loop_.now();
      const std::array<std::uint8_t, 2> prefix{static_cast<std::uint8_t>(reply.size() >> 8),
                                               static_cast<std::uint8_t>(reply.size())};
      for (ByteView part : {ByteView(prefix), ByteView(reply)}) {
        while (!part.empty()) {
          const MutableBytes room = flow->connection_.host_buffer();
          if (room.empty()) return flow->kill("reply does not fit");
          const std::size_t count = std::min(room.size(), part.size());
          std::memcpy(room.data(), part.data(), count);
          flow->connection_.host_received(count, now, *flow);
          part = part.subspan(count);
        }
      }
      flow->feed_dns();
      if (flow->eof_waiting_ && flow->dns_open_ == 0) flow->connection_.host_eof(now, *flow);
      flow->connection_.host_writable(now, *flow);
      flow->settle();
      flow->service_.link_.flush();
    });
    if (dead_) return;
  }
  feeding_ = false;
}

void TcpFlow::send_segment(const TcpOutput& segment) {
  const IpAddress guest = service_.link_.guest_address(key_.remote.family());
  service_.link_.send_tcp(key_.remote, key_.remote_port, guest, key_.guest_port, segment);
}

bool TcpFlow::can_send() const { return service_.link_.can_send(); }

void TcpFlow::opened() {
  ++service_.counters_.opened;
  if (sniffing_ || noted_ || kind_ == Kind::kDns) return;
  noted_ = true;
  service_.engine_.note_allowed(record_);
}

void TcpFlow::aborted() {
  how_ = "reset by guest";
  close_socket(true);
}

void TcpFlow::finished() {
  if (dead_) return;
  dead_ = true;
  service_.ended_.push_back(key_);
  if (noted_) service_.engine_.note_closed(record_, service_.loop_.now(), how_);
}

void TcpFlow::settle() {
  if (dead_) return;
  if (socket_) {
    std::uint32_t wanted = 0;
    if (phase_ == Phase::kDialing) {
      wanted = EPOLLOUT;
    } else if (phase_ == Phase::kProxy) {
      wanted = EPOLLIN | (held_.empty() ? 0U : std::uint32_t{EPOLLOUT});
    } else if (phase_ == Phase::kOpen) {
      if (!connection_.host_eof_seen() && !connection_.send_buffer_full() && !starved_until_)
        wanted |= EPOLLIN | EPOLLRDHUP;
      const bool inspector_waits = guard_ && guard_->waits_for_server();
      if (!held_.empty() || (connection_.wants_host_writable() && !inspector_waits)) wanted |= EPOLLOUT;
    }
    if (wanted != interest_) {
      // Hang-ups are reported even for an empty interest, so a descriptor nobody asks about leaves the loop.
      if (interest_ == 0) {
        auto token = service_.loop_.add(socket_.get(), wanted, [this](std::uint32_t events) {
          on_socket(events);
          settle();
          service_.link_.flush();
          service_.reap();
        });
        if (!token) return kill("no room in the event loop");
        token_ = *token;
      } else if (wanted == 0) {
        service_.loop_.remove(token_);
        token_ = {};
      } else if (!service_.loop_.modify(token_, wanted)) {
        return kill("event loop");
      }
      interest_ = wanted;
    }
  }
  if (connection_.wants_end_batch() && !in_acks) {
    in_acks = true;
    service_.acks_.push_back(this);
  }
  if (connection_.wants_output() && !in_waiting && !service_.link_.can_send()) {
    in_waiting = true;
    service_.waiting_.push_back(this);
  }
  service_.schedule(*this);
}

}  // namespace msb::net
