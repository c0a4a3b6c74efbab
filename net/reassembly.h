// SPDX-License-Identifier: Apache-2.0
// Puts the guest's IP fragments together, within limits. Overlaps end the packet (RFC 5722, and the same for
// IPv4). Pure: time is an argument.
#pragma once

#include <map>
#include <optional>
#include <vector>

#include "base/clock.h"
#include "net/wire/ip.h"

namespace msb::net {

class Reassembler {
 public:
  static constexpr std::size_t kMaxSets = 64;
  static constexpr std::size_t kMaxFragments = 128;
  static constexpr std::size_t kMaxBytes = 2 * 1024 * 1024;
  static constexpr Duration kLife = std::chrono::seconds(10);

  struct Packet {
    Bytes bytes;  // the upper-layer payload
    std::uint8_t protocol = 0;
  };
  // Takes one fragment. The whole payload once it is complete; `drop` tells if the fragment was refused.
  [[nodiscard]] std::optional<Packet> add(const IpPacket& fragment, Instant now, Drop& drop);
  [[nodiscard]] std::size_t sets() const { return sets_.size(); }

 private:
  struct Key {
    IpAddress source;
    IpAddress destination;
    std::uint32_t id;
    std::uint8_t protocol;
    friend auto operator<=>(const Key&, const Key&) = default;
  };
  struct Set {
    Instant started;
    std::map<std::uint32_t, Bytes> pieces;  // by offset
    std::optional<std::uint32_t> total;
    std::size_t bytes = 0;
    bool poisoned = false;  // overlapped: everything of this packet is dropped until it expires
  };
  void expire(Instant now);
  void drop_set(std::map<Key, Set>::iterator it);
  std::map<Key, Set> sets_;
  std::size_t bytes_ = 0;
};

}  // namespace msb::net
