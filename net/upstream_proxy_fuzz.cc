// SPDX-License-Identifier: Apache-2.0
// A proxy's answers, in pieces: the handshake ends, keeps nothing of what belongs to the connection, and says
// the same however the bytes are cut. The first byte chooses the kind of proxy and the size of the pieces.
#include <cstdlib>

#include "net/upstream_proxy.h"

namespace {

using namespace msb::net;  // NOLINT: a fuzz target is one file

struct Outcome {
  ProxyHandshake::State state = ProxyHandshake::State::kGoingOn;
  msb::Bytes rest;
};

Outcome run(const UpstreamProxy& proxy, msb::ByteView answers, std::size_t piece) {
  ProxyHandshake handshake(proxy, *msb::IpAddress::parse("2001:db8::1"), 443);
  Outcome out;
  while (!answers.empty() && out.state == ProxyHandshake::State::kGoingOn) {
    (void)handshake.take_output();
    const std::size_t take = std::min(piece, answers.size());
    out.state = handshake.feed(answers.first(take), out.rest);
    answers = answers.subspan(take);
  }
  if (out.state == ProxyHandshake::State::kDone)
    out.rest.insert(out.rest.end(), answers.begin(), answers.end());
  return out;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  UpstreamProxy proxy;
  proxy.spec.kind = static_cast<msb::proto::NetProxySpec::Kind>(data[0] % 3);
  proxy.spec.user = (data[0] & 4) != 0 ? "me" : "";
  proxy.password = proxy.spec.user.empty() ? "" : "secret";
  const msb::ByteView answers(data + 1, size - 1);
  const Outcome whole = run(proxy, answers, answers.size());
  const Outcome pieces = run(proxy, answers, 1 + (data[0] >> 3U) % 8);
  if (whole.state != pieces.state) std::abort();
  if (whole.state == ProxyHandshake::State::kDone && whole.rest != pieces.rest) std::abort();
  return 0;
}
