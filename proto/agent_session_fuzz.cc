// SPDX-License-Identifier: Apache-2.0
// A hostile agent: whatever bytes come, in whatever pieces, the host's state machines end in events or an
// error.
#include <algorithm>
#include <cstdint>

#include "base/check.h"
#include "proto/agent_session.h"

namespace {
template <typename Session>
void run(Session& session, msb::ByteView stream, std::size_t piece) {
  while (!stream.empty()) {
    msb::ByteView input = stream.first(std::min(piece, stream.size()));
    stream = stream.subspan(input.size());
    while (true) {
      auto event = session.next(input);
      if (!event.ok()) return;
      if (!event->has_value()) {
        MSB_CHECK(input.empty());
        break;
      }
    }
  }
}
}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using msb::proto::AgentSession;
  if (size < 2) return 0;
  const std::size_t piece = std::size_t{data[1]} + 1;
  const msb::ByteView stream(data + 2, size - 2);
  if (data[0] % 3 == 2) {
    msb::proto::ControlSession session("fuzz");
    run(session, stream, piece);
    return 0;
  }
  AgentSession session(
      "fuzz", data[0] % 3 == 0 ? AgentSession::Transport::kDirect : AgentSession::Transport::kVsockProxy);
  run(session, stream, piece);
  return 0;
}
