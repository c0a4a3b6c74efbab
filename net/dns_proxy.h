// SPDX-License-Identifier: Apache-2.0
// The sandbox's resolver: judges every question, answers from its own records and cache, asks trusted
// upstreams, takes forbidden addresses out of their answers, and binds what remains to the name for the
// policy.
//
// Theory of operation. query() ends in exactly one call of its reply, now or later. Questions that miss the
// cache are merged: one upstream exchange per (name, type, flags), with its own socket, random port and id;
// the upstreams are tried in turn until the time is up, then a stale answer or SERVFAIL goes back. Answers
// are cached as they came and filtered when handed out, so that a new policy holds for cached answers too.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/event_loop.h"
#include "base/unique_fd.h"
#include "net/dns_cache.h"
#include "net/engine.h"
#include "net/random.h"
#include "net/token_bucket.h"
#include "proto/net_spec.h"

namespace msb::net {

struct DnsCounters {
  std::uint64_t queries = 0;
  std::uint64_t cache_hits = 0;
  std::uint64_t blocked = 0;
  std::uint64_t filtered = 0;  // answers that lost addresses
  std::uint64_t failed = 0;
  std::uint64_t malformed = 0;
};

class DnsProxy {
 public:
  enum class Transport : std::uint8_t { kUdp, kTcp };
  using Reply = std::function<void(Bytes)>;  // a whole DNS message, without TCP's length prefix

  DnsProxy(EventLoop& loop, Engine& engine, RandomSource& random, const proto::NetSpec& spec);
  ~DnsProxy();

  // Malformed questions get no reply if not even their id can be read.
  void query(ByteView message, Transport transport, Reply reply);
  // The default upstreams, replacing what was.
  void set_upstreams(std::vector<proto::NetEndpoint> upstreams) { upstreams_ = std::move(upstreams); }
  // Called at most every five seconds, when a question goes upstream.
  void set_refresh(std::function<void()> refresh) {
    refresh_ = std::move(refresh);
    refreshed_ = loop_.now();
  }
  [[nodiscard]] const DnsCounters& counters() const { return counters_; }

 private:
  struct Waiter {
    DnsMessage question;
    Transport transport;
    Reply reply;
  };
  struct Exchange;

  void answer(const DnsMessage& question, Transport transport, const Reply& reply, DnsMessage message);
  [[nodiscard]] bool answer_locally(const DnsMessage& question, const Hostname& name, Transport transport,
                                    const Reply& reply);
  void reply_code(const DnsMessage& question, Transport transport, const Reply& reply, std::uint8_t rcode);
  [[nodiscard]] DnsMessage filter(const Hostname& name, DnsMessage message);
  [[nodiscard]] const std::vector<proto::NetEndpoint>& upstreams_for(const Hostname& name) const;
  void send_upstream(Exchange& exchange);
  void next_upstream(Exchange& exchange);
  void on_datagram(Exchange& exchange);
  void start_stream(Exchange& exchange);
  void on_stream(Exchange& exchange, std::uint32_t events);
  void finish(Exchange& exchange, std::optional<DnsMessage> message);
  void stop_socket(Exchange& exchange);

  EventLoop& loop_;
  Engine& engine_;
  RandomSource& random_;
  proto::NetDnsSpec spec_;
  std::vector<Hostname> aliases_;
  std::vector<IpAddress> gateways_;
  bool has_v4_;
  bool has_v6_;
  std::vector<proto::NetEndpoint> upstreams_;
  std::function<void()> refresh_;
  Instant refreshed_;
  TokenBucket rate_;
  DnsCache cache_;
  std::map<DnsKey, std::unique_ptr<Exchange>> exchanges_;
  DnsCounters counters_;
};

// Nameservers of a resolv.conf(5) text, at most 8.
[[nodiscard]] std::vector<proto::NetEndpoint> parse_resolv_conf(std::string_view text);

}  // namespace msb::net
