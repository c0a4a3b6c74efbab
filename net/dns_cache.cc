// SPDX-License-Identifier: Apache-2.0
#include "net/dns_cache.h"

#include <algorithm>

namespace msb::net {
namespace {

using std::chrono::seconds;
constexpr std::uint32_t kMaxPositive = 3600;
constexpr std::uint32_t kMaxNegative = 300;
constexpr std::uint32_t kNegativeWithoutSoa = 10;
constexpr Duration kStale = std::chrono::hours(24);
constexpr std::uint32_t kStaleTtl = 30;
constexpr std::size_t kMaxCachedRecords = 128;

// RFC 2308: a negative answer lives min(SOA TTL, SOA minimum).
std::uint32_t lifetime(const DnsMessage& answer) {
  std::uint32_t least = kMaxPositive;
  for (const DnsRecord& record : answer.answers) least = std::min(least, record.ttl);
  if (answer.rcode == kDnsNoError && !answer.answers.empty()) return least;
  for (const DnsRecord& record : answer.authority) {
    if (record.type != kDnsTypeSoa || record.data.size() < 20) continue;
    const std::uint8_t* minimum = record.data.data() + record.data.size() - 4;
    const std::uint32_t value = static_cast<std::uint32_t>(minimum[0]) << 24 |
                                static_cast<std::uint32_t>(minimum[1]) << 16 |
                                static_cast<std::uint32_t>(minimum[2]) << 8 | minimum[3];
    return std::min({record.ttl, value, kMaxNegative, least});
  }
  return std::min(kNegativeWithoutSoa, least);
}

template <typename F>
void for_each_record(DnsMessage& message, F&& f) {
  for (auto* section : {&message.answers, &message.authority, &message.additional}) {
    for (DnsRecord& record : *section) f(record);
  }
}

}  // namespace

void DnsCache::put(const DnsKey& key, const DnsMessage& answer, Instant now) {
  if (answer.rcode != kDnsNoError && answer.rcode != kDnsNxDomain) return;
  if (answer.truncated ||
      answer.answers.size() + answer.authority.size() + answer.additional.size() > kMaxCachedRecords)
    return;
  const std::uint32_t life = lifetime(answer);
  if (life == 0) return;
  if (const auto it = entries_.find(key); it != entries_.end()) {
    uses_.erase(it->second.use);
    entries_.erase(it);
  } else if (entries_.size() >= capacity_) {
    entries_.erase(uses_.back());
    uses_.pop_back();
  }
  uses_.push_front(key);
  entries_.emplace(key, Entry{answer, now, now + seconds(life), uses_.begin()});
}

std::optional<DnsMessage> DnsCache::get(const DnsKey& key, Instant now, bool stale) {
  const auto it = entries_.find(key);
  if (it == entries_.end()) return std::nullopt;
  Entry& entry = it->second;
  const bool expired = entry.until <= now;
  if (expired && (!stale || entry.until + kStale <= now)) return std::nullopt;
  uses_.splice(uses_.begin(), uses_, entry.use);
  DnsMessage out = entry.message;
  const auto age = static_cast<std::uint32_t>((now - entry.stored).count() / 1'000'000'000);
  for_each_record(out, [&](DnsRecord& record) {
    if (expired)
      record.ttl = kStaleTtl;
    else
      record.ttl = record.ttl > age ? record.ttl - age : 1;
  });
  return out;
}

}  // namespace msb::net
