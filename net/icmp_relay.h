// SPDX-License-Identifier: Apache-2.0
// Echo requests: the gateway answers its own; others go out through an unprivileged ping socket of the host
// where it permits those (ping_group_range), and are refused clearly where it does not.
#pragma once

#include <map>
#include <optional>

#include "base/event_loop.h"
#include "net/engine.h"
#include "net/guest_link.h"
#include "net/token_bucket.h"
#include "net/wire/transport.h"

namespace msb::net {

class IcmpRelay {
 public:
  static constexpr std::size_t kMaxBody = 1472;  // a channel out as narrow as a ping needs
  static constexpr std::uint64_t kPerSecond = 100;
  IcmpRelay(EventLoop& loop, GuestLink& link, Engine& engine);
  ~IcmpRelay();
  void on_packet(const IpPacket& packet, const IcmpMessage& message);
  void rejudge_all();

 private:
  static constexpr std::size_t kMaxFlows = 64;
  static constexpr Duration kIdle = std::chrono::seconds(20);
  struct Key {
    IpAddress remote;
    std::uint16_t id = 0;
    friend auto operator<=>(const Key&, const Key&) = default;
  };
  struct Flow {
    FlowRecord record;
    UniqueFd socket;
    EventLoop::IoToken token;
    Instant last;
  };
  void on_readable(const Key& key);
  void arm();
  std::map<Key, Flow>::iterator close(std::map<Key, Flow>::iterator it, const char* how);
  EventLoop& loop_;
  GuestLink& link_;
  Engine& engine_;
  TokenBucket rate_;
  std::map<Key, Flow> flows_;
  EventLoop::TimerToken timer_ = 0;
};

}  // namespace msb::net
