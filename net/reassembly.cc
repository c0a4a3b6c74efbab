// SPDX-License-Identifier: Apache-2.0
#include "net/reassembly.h"

#include <algorithm>

namespace msb::net {
namespace {
constexpr std::uint32_t kMaxPacket = 65535;
}

void Reassembler::drop_set(std::map<Key, Set>::iterator it) {
  bytes_ -= it->second.bytes;
  sets_.erase(it);
}

void Reassembler::expire(Instant now) {
  for (auto it = sets_.begin(); it != sets_.end();) {
    const auto next = std::next(it);
    if (it->second.started + kLife <= now) drop_set(it);
    it = next;
  }
}

std::optional<Reassembler::Packet> Reassembler::add(const IpPacket& fragment, Instant now, Drop& drop) {
  drop = Drop::kFragment;
  const auto length = static_cast<std::uint32_t>(fragment.payload.size());
  const std::uint32_t offset = fragment.fragment_offset;
  if (length == 0 || length > kMaxPacket || offset > kMaxPacket - length) return std::nullopt;
  if (fragment.more_fragments && length % 8 != 0) return std::nullopt;
  expire(now);
  const Key key{fragment.source, fragment.destination, fragment.fragment_id, fragment.protocol};
  auto it = sets_.find(key);
  if (it == sets_.end()) {
    if (sets_.size() >= kMaxSets) return std::nullopt;
    it = sets_.emplace(key, Set{.started = now, .pieces = {}, .total = {}}).first;
  }
  Set& set = it->second;
  if (set.poisoned) return std::nullopt;
  const auto poison = [&] {
    bytes_ -= set.bytes;
    set.bytes = 0;
    set.pieces.clear();
    set.poisoned = true;
    return std::nullopt;
  };
  const std::uint32_t end = offset + length;
  if (!fragment.more_fragments) {
    if (set.total && *set.total != end) return poison();
    set.total = end;
  }
  if (set.total && end > *set.total) return poison();
  const auto after = set.pieces.lower_bound(offset);
  if (after != set.pieces.end() && after->first < end) return poison();
  if (after != set.pieces.begin()) {
    const auto before = std::prev(after);
    if (before->first + before->second.size() > offset) return poison();
  }
  if (set.total && !set.pieces.empty()) {
    const auto& last = *set.pieces.rbegin();
    if (last.first + last.second.size() > *set.total) return poison();
  }
  if (set.pieces.size() >= kMaxFragments || bytes_ + length > kMaxBytes) return poison();
  set.pieces.emplace(offset, Bytes(fragment.payload.begin(), fragment.payload.end()));
  set.bytes += length;
  bytes_ += length;
  drop = Drop::kNone;
  if (!set.total || set.bytes != *set.total) return std::nullopt;
  Packet out;
  out.protocol = fragment.protocol;
  out.bytes.reserve(*set.total);
  for (const auto& [at, piece] : set.pieces) out.bytes.insert(out.bytes.end(), piece.begin(), piece.end());
  drop_set(it);
  return out;
}

}  // namespace msb::net
