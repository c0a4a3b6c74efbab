// SPDX-License-Identifier: Apache-2.0
#include "net/dns_proxy.h"

#include <sys/socket.h>

#include <algorithm>
#include <array>

#include "base/log.h"
#include "net/host_socket.h"

namespace msb::net {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr std::size_t kMaxExchanges = 512;
constexpr std::size_t kMaxWaiters = 64;
constexpr std::uint16_t kEdnsSize = 1232;
constexpr Duration kAttempt = milliseconds(1500);
constexpr int kMaxAttempts = 24;
constexpr std::size_t kPlainUdpAnswer = 512;
constexpr std::uint32_t kLocalTtl = 60;

DnsKey key_of(const DnsMessage& question) {
  DnsKey key{question.question, question.question_type, question.dnssec_ok, question.checking_disabled};
  for (std::uint8_t& c : key.name) {
    if (c >= 'A' && c <= 'Z') c = static_cast<std::uint8_t>(c + 32);
  }
  return key;
}

}  // namespace

struct DnsProxy::Exchange {
  DnsKey key;
  Hostname name;
  DnsMessage question;  // as it goes upstream
  Bytes wire;
  std::vector<Waiter> waiters;
  std::vector<proto::NetEndpoint> upstreams;
  std::size_t at = 0;
  int attempts = 0;
  Instant give_up;
  UniqueFd socket;
  EventLoop::IoToken token;
  EventLoop::TimerToken timer = 0;
  bool stream = false;
  Bytes stream_out;
  std::size_t stream_sent = 0;
  Bytes stream_in;
  std::optional<DnsMessage> refusal;  // SERVFAIL or REFUSED of an upstream, while others are left
};

DnsProxy::DnsProxy(EventLoop& loop, Engine& engine, RandomSource& random, const proto::NetSpec& spec)
    : loop_(loop),
      engine_(engine),
      random_(random),
      spec_(spec.dns),
      has_v4_(spec.guest.ipv4.has_value()),
      has_v6_(spec.guest.ipv6.has_value()),
      upstreams_(spec.dns.upstreams) {
  for (const std::string& alias : {spec.host_alias, std::string("host.docker.internal")}) {
    if (auto name = Hostname::parse(alias)) aliases_.push_back(std::move(name).value());
  }
  if (spec.guest.ipv4) gateways_.push_back(spec.guest.ipv4->gateway);
  if (spec.guest.ipv6) gateways_.push_back(spec.guest.ipv6->gateway);
  if (spec_.max_queries_per_s != 0)
    rate_ = TokenBucket(spec_.max_queries_per_s, std::uint64_t{4} * spec_.max_queries_per_s, loop.now());
}

DnsProxy::~DnsProxy() {
  for (auto& [key, exchange] : exchanges_) stop_socket(*exchange);
}

void DnsProxy::reply_code(const DnsMessage& question, Transport transport, const Reply& reply,
                          std::uint8_t rcode) {
  DnsMessage message;
  message.rcode = rcode;
  answer(question, transport, reply, std::move(message));
}

// Puts the guest's own id, question and size limit around an answer.
void DnsProxy::answer(const DnsMessage& question, Transport transport, const Reply& reply,
                      DnsMessage message) {
  message.id = question.id;
  message.response = true;
  message.opcode = question.opcode;
  message.question = question.question;
  message.question_type = question.question_type;
  message.question_class = question.question_class;
  message.recursion_desired = question.recursion_desired;
  message.recursion_available = true;
  message.checking_disabled = question.checking_disabled;
  message.dnssec_ok = question.dnssec_ok;
  message.truncated = false;
  std::size_t limit = 65535;
  if (question.edns_size) {
    message.edns_size = kEdnsSize;
    if (transport == Transport::kUdp) limit = std::min<std::size_t>(*question.edns_size, 16384);
  } else {
    message.edns_size.reset();
    if (transport == Transport::kUdp) limit = kPlainUdpAnswer;
  }
  reply(write_dns(message, limit));
}

bool DnsProxy::answer_locally(const DnsMessage& question, const Hostname& name, Transport transport,
                              const Reply& reply) {
  const std::vector<IpAddress>* addresses = nullptr;
  if (std::find(aliases_.begin(), aliases_.end(), name) != aliases_.end()) addresses = &gateways_;
  for (const auto& host : spec_.hosts) {
    if (host.name == name) addresses = &host.addresses;
  }
  if (addresses == nullptr) return false;
  DnsMessage message;
  message.authoritative = true;
  for (const IpAddress& address : *addresses) {
    const std::uint16_t type = address.is_v4() ? kDnsTypeA : kDnsTypeAaaa;
    if (question.question_type != type) continue;
    message.answers.push_back({question.question, type, kDnsClassIn, kLocalTtl,
                               Bytes(address.bytes().begin(), address.bytes().end())});
    engine_.names().bind(name, address, seconds(kLocalTtl), loop_.now());
  }
  answer(question, transport, reply, std::move(message));
  return true;
}

void DnsProxy::query(ByteView bytes, Transport transport, Reply reply) {
  ++counters_.queries;
  auto parsed = parse_dns(bytes);
  if (!parsed || parsed->response) {
    ++counters_.malformed;
    if (bytes.size() < 12 || (bytes[2] & 0x80) != 0) return;
    DnsMessage refusal;
    refusal.id = static_cast<std::uint16_t>(bytes[0] << 8 | bytes[1]);
    refusal.response = true;
    refusal.rcode = kDnsFormErr;
    return reply(write_dns(refusal));
  }
  const DnsMessage question = std::move(parsed).value();
  const Instant now = loop_.now();
  if (!rate_.ready(now)) return reply_code(question, transport, reply, kDnsRefused);
  rate_.charge(1, now);
  if (question.opcode != 0 || question.question_class != kDnsClassIn)
    return reply_code(question, transport, reply, kDnsNotImp);
  // Zone transfers and "any" have no place here (RFC 8482).
  if (question.question_type >= 251 && question.question_type <= 255)
    return reply_code(question, transport, reply, kDnsRefused);
  const auto text = dns_name_text(question.question);
  auto name = text ? Hostname::parse(*text) : Result<Hostname>(make_error(Errc::kInvalid, "odd bytes"));
  if (!name) {
    ++counters_.blocked;
    engine_.note_lookup("?", question.question_type, {Verdict::kDeny, -1, "not a host name"}, "nxdomain");
    return reply_code(question, transport, reply, kDnsNxDomain);
  }
  Decision decision = engine_.policy().judge_lookup(*name);
  if (decision.verdict != Verdict::kAllow && engine_.policy().observe())
    decision = {Verdict::kAllow, decision.rule, "observing: no rule allows it yet"};
  if (std::find(aliases_.begin(), aliases_.end(), *name) != aliases_.end())
    decision = {Verdict::kAllow, -1, "the host's alias"};
  if (decision.verdict != Verdict::kAllow) {
    ++counters_.blocked;
    engine_.note_lookup(name->text(), question.question_type, decision, "nxdomain");
    return reply_code(question, transport, reply, kDnsNxDomain);
  }
  if (answer_locally(question, *name, transport, reply)) return;
  const bool missing_family = (question.question_type == kDnsTypeA && !has_v4_) ||
                              (question.question_type == kDnsTypeAaaa && !has_v6_);
  if (missing_family) return reply_code(question, transport, reply, kDnsNoError);
  const DnsKey key = key_of(question);
  if (auto cached = cache_.get(key, now)) {
    ++counters_.cache_hits;
    engine_.note_lookup(name->text(), question.question_type, decision, "cache");
    return answer(question, transport, reply, filter(*name, std::move(*cached)));
  }
  engine_.note_lookup(name->text(), question.question_type, decision, "upstream");
  if (const auto it = exchanges_.find(key); it != exchanges_.end()) {
    if (it->second->waiters.size() >= kMaxWaiters)
      return reply_code(question, transport, reply, kDnsServFail);
    it->second->waiters.push_back({question, transport, std::move(reply)});
    return;
  }
  if (refresh_ && now - refreshed_ > seconds(5)) {
    refreshed_ = now;
    refresh_();
  }
  const auto& upstreams = upstreams_for(*name);
  if (upstreams.empty() || exchanges_.size() >= kMaxExchanges) {
    ++counters_.failed;
    return reply_code(question, transport, reply, kDnsServFail);
  }
  auto exchange = std::unique_ptr<Exchange>(new Exchange{.key = key,
                                                         .name = *name,
                                                         .question = {},
                                                         .wire = {},
                                                         .waiters = {},
                                                         .upstreams = upstreams,
                                                         .give_up = now + milliseconds(spec_.timeout_ms),
                                                         .socket = {},
                                                         .token = {},
                                                         .stream_out = {},
                                                         .stream_in = {},
                                                         .refusal = {}});
  exchange->question.question = key.name;
  exchange->question.question_type = question.question_type;
  exchange->question.recursion_desired = true;
  exchange->question.checking_disabled = question.checking_disabled;
  exchange->question.dnssec_ok = question.dnssec_ok;
  exchange->question.edns_size = kEdnsSize;
  exchange->waiters.push_back({question, transport, std::move(reply)});
  Exchange& started = *exchange;
  exchanges_.emplace(key, std::move(exchange));
  send_upstream(started);
}

const std::vector<proto::NetEndpoint>& DnsProxy::upstreams_for(const Hostname& name) const {
  const proto::NetDnsSpec::Route* best = nullptr;
  for (const auto& route : spec_.routes) {
    if (name.is_under(route.suffix) && (best == nullptr || route.suffix.labels() > best->suffix.labels()))
      best = &route;
  }
  return best != nullptr ? best->upstreams : upstreams_;
}

void DnsProxy::stop_socket(Exchange& exchange) {
  if (exchange.token.valid()) loop_.remove(exchange.token);
  exchange.token = {};
  exchange.socket.reset();
  loop_.cancel_timer(exchange.timer);
  exchange.timer = 0;
}

void DnsProxy::next_upstream(Exchange& exchange) {
  exchange.at = (exchange.at + 1) % exchange.upstreams.size();
  exchange.stream = false;
  send_upstream(exchange);
}

void DnsProxy::send_upstream(Exchange& exchange) {
  // Each round either leaves a socket waiting or counts an attempt.
  while (true) {
    stop_socket(exchange);
    const Instant now = loop_.now();
    if (now >= exchange.give_up || exchange.attempts >= kMaxAttempts)
      return finish(exchange, std::move(exchange.refusal));
    ++exchange.attempts;
    const proto::NetEndpoint& to = exchange.upstreams[exchange.at];
    auto socket = open_socket(to.address.family(), SOCK_DGRAM);
    exchange.question.id = static_cast<std::uint16_t>(random_.next());
    exchange.wire = write_dns(exchange.question);
    if (socket && start_connect(socket->get(), to.address, to.port) == 0 &&
        ::send(socket->get(), exchange.wire.data(), exchange.wire.size(), MSG_NOSIGNAL) ==
            static_cast<ssize_t>(exchange.wire.size())) {
      exchange.socket = std::move(socket).value();
      Exchange* self = &exchange;
      auto token =
          loop_.add(exchange.socket.get(), EPOLLIN, [this, self](std::uint32_t) { on_datagram(*self); });
      if (token) {
        exchange.token = *token;
        exchange.timer = loop_.add_timer(std::min(now + kAttempt, exchange.give_up), [this, self] {
          self->timer = 0;
          next_upstream(*self);
        });
        return;
      }
    }
    exchange.at = (exchange.at + 1) % exchange.upstreams.size();
  }
}

void DnsProxy::on_datagram(Exchange& exchange) {
  std::array<std::uint8_t, 4096> buffer{};
  for (int i = 0; i < 8; ++i) {
    const ssize_t got = ::recv(exchange.socket.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
    if (got < 0) {
      if (errno == EAGAIN || errno == EINTR) return;
      return next_upstream(exchange);
    }
    auto message = parse_dns(ByteView(buffer).first(static_cast<std::size_t>(got)));
    // Anything that is not the answer to this very question may be forged: go on waiting.
    if (!message || !message->response || message->id != exchange.question.id ||
        message->question_type != exchange.question.question_type ||
        !dns_names_equal(message->question, exchange.question.question)) {
      continue;
    }
    if (message->truncated) return start_stream(exchange);
    if (message->rcode != kDnsNoError && message->rcode != kDnsNxDomain &&
        static_cast<std::size_t>(exchange.attempts) < exchange.upstreams.size()) {
      exchange.refusal = std::move(message).value();
      return next_upstream(exchange);
    }
    return finish(exchange, std::move(message).value());
  }
}

// The answer did not fit: the same question again over TCP.
void DnsProxy::start_stream(Exchange& exchange) {
  stop_socket(exchange);
  const proto::NetEndpoint& to = exchange.upstreams[exchange.at];
  auto socket = open_socket(to.address.family(), SOCK_STREAM);
  if (!socket) return next_upstream(exchange);
  const int error = start_connect(socket->get(), to.address, to.port);
  if (error != 0 && error != EINPROGRESS) return next_upstream(exchange);
  exchange.stream = true;
  exchange.socket = std::move(socket).value();
  exchange.stream_out = {static_cast<std::uint8_t>(exchange.wire.size() >> 8),
                         static_cast<std::uint8_t>(exchange.wire.size())};
  exchange.stream_out.insert(exchange.stream_out.end(), exchange.wire.begin(), exchange.wire.end());
  exchange.stream_sent = 0;
  exchange.stream_in.clear();
  Exchange* self = &exchange;
  auto token = loop_.add(exchange.socket.get(), EPOLLOUT,
                         [this, self](std::uint32_t events) { on_stream(*self, events); });
  if (!token) return next_upstream(exchange);
  exchange.token = *token;
  exchange.timer = loop_.add_timer(exchange.give_up, [this, self] {
    self->timer = 0;
    finish(*self, std::nullopt);
  });
}

void DnsProxy::on_stream(Exchange& exchange, std::uint32_t events) {
  if (exchange.stream_sent < exchange.stream_out.size()) {
    if ((events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) == 0) return;
    const ssize_t sent =
        ::send(exchange.socket.get(), exchange.stream_out.data() + exchange.stream_sent,
               exchange.stream_out.size() - exchange.stream_sent, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0) {
      if (errno == EAGAIN || errno == EINTR) return;
      return next_upstream(exchange);
    }
    exchange.stream_sent += static_cast<std::size_t>(sent);
    if (exchange.stream_sent < exchange.stream_out.size()) return;
    if (auto status = loop_.modify(exchange.token, EPOLLIN); !status) return next_upstream(exchange);
    return;
  }
  std::array<std::uint8_t, 8192> buffer{};
  const ssize_t got = ::recv(exchange.socket.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (got <= 0) return next_upstream(exchange);
  Bytes& in = exchange.stream_in;
  in.insert(in.end(), buffer.begin(), buffer.begin() + got);
  if (in.size() < 2) return;
  const std::size_t length = static_cast<std::size_t>(in[0] << 8 | in[1]);
  if (in.size() - 2 < length) return;
  auto message = parse_dns(ByteView(in).subspan(2, length));
  if (!message || !message->response || message->id != exchange.question.id ||
      !dns_names_equal(message->question, exchange.question.question))
    return next_upstream(exchange);
  finish(exchange, std::move(message).value());
}

void DnsProxy::finish(Exchange& exchange, std::optional<DnsMessage> message) {
  stop_socket(exchange);
  const auto it = exchanges_.find(exchange.key);
  const std::unique_ptr<Exchange> owned = std::move(it->second);
  exchanges_.erase(it);
  const Instant now = loop_.now();
  if (message) cache_.put(owned->key, *message, now);
  const bool failed = !message || message->rcode == kDnsServFail;
  if (failed) {
    if (auto stale = cache_.get(owned->key, now, true)) message = std::move(stale);
  }
  for (const Waiter& waiter : owned->waiters) {
    if (!message) {
      ++counters_.failed;
      reply_code(waiter.question, waiter.transport, waiter.reply, kDnsServFail);
    } else {
      answer(waiter.question, waiter.transport, waiter.reply, filter(owned->name, *message));
    }
  }
}

// What may be handed out: records of the name itself or of its chain of aliases, without forbidden addresses.
DnsMessage DnsProxy::filter(const Hostname& name, DnsMessage message) {
  const Policy& policy = engine_.policy();
  const bool check = spec_.rebind_protection || policy.has_name_rules();
  DnsName owner = dns_name_from_text(name.text());
  std::vector<DnsRecord> kept;
  std::vector<std::pair<IpAddress, std::uint32_t>> addresses;
  std::uint32_t chain_ttl = UINT32_MAX;
  bool removed = false;
  std::vector<DnsName> owners{owner};
  // Chains come in any order; each pass follows at least one alias.
  for (bool grew = true; grew && owners.size() < 17;) {
    grew = false;
    for (const DnsRecord& record : message.answers) {
      if (record.type != kDnsTypeCname || !dns_names_equal(record.name, owners.back())) continue;
      if (std::any_of(owners.begin(), owners.end(),
                      [&](const DnsName& seen) { return dns_names_equal(seen, record.data); }))
        continue;
      owners.push_back(record.data);
      chain_ttl = std::min(chain_ttl, record.ttl);
      grew = true;
      break;
    }
  }
  for (DnsRecord& record : message.answers) {
    if (std::none_of(owners.begin(), owners.end(),
                     [&](const DnsName& seen) { return dns_names_equal(seen, record.name); }))
      continue;
    if (const auto address = record.address()) {
      if ((check && !policy.answer_allowed(name, *address, engine_.classifier())) ||
          (address->is_v6() && !has_v6_) || (address->is_v4() && !has_v4_)) {
        removed = true;
        continue;
      }
      addresses.emplace_back(*address, record.ttl);
    } else if (record.type == kDnsTypeA || record.type == kDnsTypeAaaa) {
      continue;
    } else if (record.type == kDnsTypeSvcb || record.type == kDnsTypeHttps) {
      const auto hints = svcb_hints(record.data);
      SvcbFilter what;
      what.drop_ech = policy.has_name_rules();
      what.drop_address_hints =
          !hints || (check && std::any_of(hints->begin(), hints->end(), [&](const IpAddress& hint) {
                       return !policy.answer_allowed(name, hint, engine_.classifier());
                     }));
      auto data = hints ? filter_svcb(record.data, what) : std::nullopt;
      if (!data) {
        removed = true;
        continue;
      }
      record.data = std::move(*data);
      if (!what.drop_address_hints) {
        for (const IpAddress& hint : *hints) addresses.emplace_back(hint, record.ttl);
      }
    }
    kept.push_back(std::move(record));
  }
  const Instant now = loop_.now();
  for (const auto& [address, ttl] : addresses)
    engine_.names().bind(name, unmap(address), seconds(std::min(ttl, chain_ttl)), now);
  message.answers = std::move(kept);
  message.additional.clear();
  std::erase_if(message.authority, [](const DnsRecord& record) {
    return record.type != kDnsTypeSoa && record.type != kDnsTypeNs && record.type < 43;
  });
  message.authentic = message.authentic && !removed;
  if (removed) {
    ++counters_.filtered;
    engine_.note_event("rebind", name.text() + ": answers into forbidden ranges removed");
    if (addresses.empty()) {
      message.answers.clear();
      message.authority.clear();
      message.rcode = kDnsNxDomain;
    }
  }
  return message;
}

std::vector<proto::NetEndpoint> parse_resolv_conf(std::string_view text) {
  std::vector<proto::NetEndpoint> out;
  while (!text.empty() && out.size() < 8) {
    const std::size_t end = text.find('\n');
    std::string_view line = text.substr(0, end);
    text = end == std::string_view::npos ? std::string_view{} : text.substr(end + 1);
    constexpr std::string_view kWord = "nameserver";
    if (!line.starts_with(kWord)) continue;
    line.remove_prefix(kWord.size());
    if (line.empty() || (line[0] != ' ' && line[0] != '\t')) continue;
    line.remove_prefix(std::min(line.find_first_not_of(" \t"), line.size()));
    line = line.substr(0, line.find_first_of(" \t\r#;"));
    if (const auto address = IpAddress::parse(line)) out.push_back({*address, 53});
  }
  return out;
}

}  // namespace msb::net
