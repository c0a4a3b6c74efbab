// SPDX-License-Identifier: Apache-2.0
// Asking an upstream proxy for a connection: SOCKS4, SOCKS5 (RFC 1928, RFC 1929) and HTTP CONNECT (RFC
// 9110 9.3.6). Pure: bytes in, bytes out.
#pragma once

#include <cstdint>
#include <string>

#include "base/bytes.h"
#include "proto/net_spec.h"

namespace msb::net {

struct UpstreamProxy {
  proto::NetProxySpec spec;
  std::string password;
};

class ProxyHandshake {
 public:
  enum class State : std::uint8_t { kGoingOn, kDone, kFailed };
  ProxyHandshake(const UpstreamProxy& proxy, const IpAddress& target, std::uint16_t port);
  // What to send once the proxy is connected, and after each step.
  [[nodiscard]] Bytes take_output() { return std::exchange(output_, {}); }
  // Bytes from the proxy. After kDone, `rest` holds those that belong to the connection already.
  [[nodiscard]] State feed(ByteView bytes, Bytes& rest);
  [[nodiscard]] State state() const { return state_; }

 private:
  enum class Step : std::uint8_t { kGreeting, kPassword, kRequest };
  [[nodiscard]] State fail() { return state_ = State::kFailed; }
  void put_socks5_request();
  State feed_socks5(Bytes& rest);
  const UpstreamProxy& proxy_;
  IpAddress target_;
  std::uint16_t port_;
  State state_ = State::kGoingOn;
  Step step_ = Step::kGreeting;
  Bytes input_;
  Bytes output_;
};

}  // namespace msb::net
