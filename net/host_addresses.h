// SPDX-License-Identifier: Apache-2.0
// Which addresses this machine delivers to itself: the "local" routes of every table, read over rtnetlink at
// the start and kept current. That covers every interface's addresses and any-IP ranges alike.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "base/event_loop.h"
#include "base/ip_address.h"
#include "base/result.h"
#include "base/unique_fd.h"

namespace msb::net {

class HostAddresses {
 public:
  using Listener = std::function<void(const std::vector<IpPrefix>&)>;
  // Reads the present state (blocking, once) and calls `listener` with it, then again after each change.
  [[nodiscard]] static Result<std::unique_ptr<HostAddresses>> create(EventLoop& loop, Listener listener);
  ~HostAddresses();

 private:
  HostAddresses(EventLoop& loop, UniqueFd monitor, Listener listener)
      : loop_(loop), monitor_(std::move(monitor)), listener_(std::move(listener)) {}
  void on_change();
  [[nodiscard]] Status refresh();
  EventLoop& loop_;
  UniqueFd monitor_;
  EventLoop::IoToken token_;
  EventLoop::TimerToken timer_ = 0;
  Listener listener_;
};

}  // namespace msb::net
