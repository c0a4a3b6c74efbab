// SPDX-License-Identifier: Apache-2.0
// Answers of upstream resolvers, least recently used out first. Pure: time is an argument.
#pragma once

#include <list>
#include <map>
#include <optional>

#include "base/clock.h"
#include "net/wire/dns.h"

namespace msb::net {

struct DnsKey {
  DnsName name;  // lower case
  std::uint16_t type = 0;
  bool dnssec_ok = false;
  bool checking_disabled = false;
  friend auto operator<=>(const DnsKey&, const DnsKey&) = default;
};

class DnsCache {
 public:
  explicit DnsCache(std::size_t entries = 2048) : capacity_(entries) {}
  // Keeps a NOERROR or NXDOMAIN answer for its lifetime (at most an hour, negative ones five minutes).
  void put(const DnsKey& key, const DnsMessage& answer, Instant now);
  // The answer with its TTLs aged. Beyond its lifetime only with `stale`, then with TTLs of 30 s, for at most
  // a day.
  [[nodiscard]] std::optional<DnsMessage> get(const DnsKey& key, Instant now, bool stale = false);
  [[nodiscard]] std::size_t size() const { return entries_.size(); }

 private:
  struct Entry {
    DnsMessage message;
    Instant stored;
    Instant until;
    std::list<DnsKey>::iterator use;
  };
  std::size_t capacity_;
  std::map<DnsKey, Entry> entries_;
  std::list<DnsKey> uses_;  // front: latest
};

}  // namespace msb::net
