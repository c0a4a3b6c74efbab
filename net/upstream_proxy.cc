// SPDX-License-Identifier: Apache-2.0
#include "net/upstream_proxy.h"

#include "base/base64.h"

namespace msb::net {
namespace {
using Kind = proto::NetProxySpec::Kind;
constexpr std::size_t kMaxReply = 8192;
}  // namespace

ProxyHandshake::ProxyHandshake(const UpstreamProxy& proxy, const IpAddress& target, std::uint16_t port)
    : proxy_(proxy), target_(target), port_(port) {
  ByteWriter out;
  const std::string& user = proxy.spec.user;
  switch (proxy.spec.kind) {
    case Kind::kSocks4:
      if (target.is_v6()) {
        state_ = State::kFailed;
        return;
      }
      out.put_u8(4);
      out.put_u8(1);
      out.put(Be16(port));
      out.put_bytes(target.bytes());
      out.put_text(user);
      out.put_u8(0);
      step_ = Step::kRequest;
      break;
    case Kind::kSocks5:
      out.put_u8(5);
      out.put_u8(1);
      out.put_u8(user.empty() ? 0 : 2);
      break;
    case Kind::kHttp: {
      const std::string where = endpoint_text(target, port);
      out.put_text("CONNECT " + where + " HTTP/1.1\r\nHost: " + where + "\r\n");
      if (!user.empty())
        out.put_text("Proxy-Authorization: Basic " + base64_encode(as_bytes(user + ":" + proxy.password)) +
                     "\r\n");
      out.put_text("\r\n");
      break;
    }
  }
  output_ = std::move(out).take();
}

void ProxyHandshake::put_socks5_request() {
  ByteWriter out;
  out.put_u8(5);
  out.put_u8(1);
  out.put_u8(0);
  out.put_u8(target_.is_v4() ? 1 : 4);
  out.put_bytes(target_.bytes());
  out.put(Be16(port_));
  output_ = std::move(out).take();
  step_ = Step::kRequest;
}

ProxyHandshake::State ProxyHandshake::feed_socks5(Bytes& rest) {
  // At most three steps, each consuming its reply.
  while (state_ == State::kGoingOn) {
    if (step_ == Step::kGreeting) {
      if (input_.size() < 2) return state_;
      const std::uint8_t method = input_[1];
      if (input_[0] != 5) return fail();
      input_.erase(input_.begin(), input_.begin() + 2);
      if (method == 0 && proxy_.spec.user.empty()) {
        put_socks5_request();
      } else if (method == 2 && !proxy_.spec.user.empty() && proxy_.password.size() <= 255) {
        ByteWriter out;
        out.put_u8(1);
        out.put_u8(static_cast<std::uint8_t>(proxy_.spec.user.size()));
        out.put_text(proxy_.spec.user);
        out.put_u8(static_cast<std::uint8_t>(proxy_.password.size()));
        out.put_text(proxy_.password);
        output_ = std::move(out).take();
        step_ = Step::kPassword;
      } else {
        return fail();
      }
    } else if (step_ == Step::kPassword) {
      if (input_.size() < 2) return state_;
      if (input_[1] != 0) return fail();
      input_.erase(input_.begin(), input_.begin() + 2);
      put_socks5_request();
    } else {
      if (input_.size() < 5) return state_;
      if (input_[0] != 5 || input_[1] != 0) return fail();
      const std::size_t address =
          input_[3] == 1 ? 4 : (input_[3] == 4 ? 16 : (input_[3] == 3 ? input_[4] + 1U : 0));
      if (address == 0) return fail();
      const std::size_t total = 4 + address + 2;
      if (input_.size() < total) return state_;
      rest.assign(input_.begin() + static_cast<std::ptrdiff_t>(total), input_.end());
      state_ = State::kDone;
    }
  }
  return state_;
}

ProxyHandshake::State ProxyHandshake::feed(ByteView bytes, Bytes& rest) {
  if (state_ != State::kGoingOn) return state_;
  if (bytes.size() > kMaxReply - input_.size()) return fail();
  input_.insert(input_.end(), bytes.begin(), bytes.end());
  switch (proxy_.spec.kind) {
    case Kind::kSocks5:
      return feed_socks5(rest);
    case Kind::kSocks4:
      if (input_.size() < 8) return state_;
      if (input_[0] != 0 || input_[1] != 90) return fail();
      rest.assign(input_.begin() + 8, input_.end());
      return state_ = State::kDone;
    case Kind::kHttp: {
      const std::string_view text = as_text(input_);
      const std::size_t end = text.find("\r\n\r\n");
      if (end == std::string_view::npos) return state_;
      const bool fine = text.size() > 12 && text.starts_with("HTTP/1.") && text.substr(8, 2) == " 2";
      if (!fine) return fail();
      rest.assign(input_.begin() + static_cast<std::ptrdiff_t>(end + 4), input_.end());
      return state_ = State::kDone;
    }
  }
  return state_;
}

}  // namespace msb::net
