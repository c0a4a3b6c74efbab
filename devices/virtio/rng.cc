// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/rng.h"

#include <sys/random.h>

#include <algorithm>

#include "base/check.h"

namespace msb::devices {
namespace {
constexpr int kRequestsPerCall = 8;
constexpr std::size_t kStep = 4096;
}  // namespace

Rng::Source Rng::system_source() {
  return [](MutableBytes out) {
    while (!out.empty()) {  // getrandom gives at least 256 bytes a call, or is interrupted
      const ssize_t got = ::getrandom(out.data(), out.size(), 0);
      if (got < 0 && errno != EINTR) return false;
      if (got > 0) out = out.subspan(static_cast<std::size_t>(got));
    }
    return true;
  };
}

void Rng::process(DriverSession& session, std::uint16_t index) {
  Queue* queue = session.queue(index);
  if (queue == nullptr || session.failed()) return;
  bool used = false;
  for (int done = 0;; ++done) {
    const Queue::Pop pop = queue->pop(chain_);
    if (pop == Queue::Pop::kBroken) return session.fail(queue->broken_reason());
    if (pop == Queue::Pop::kEmpty) {
      if (queue->enable_kicks()) continue;
      break;
    }
    if (done >= kRequestsPerCall) {
      queue->undo_pop();
      session.kick_again(index);
      break;
    }
    if (chain_.writable_bytes == 0) return session.fail("entropy request without room for an answer");
    const std::size_t wanted = std::min<std::size_t>(chain_.writable_bytes, kMaxBytes);
    vmm::RangeWriter writer = chain_.writer();
    std::array<std::uint8_t, kStep> random;
    std::size_t written = 0;
    while (written < wanted) {
      const MutableBytes piece = MutableBytes(random).first(std::min(kStep, wanted - written));
      if (!source_(piece)) break;
      MSB_CHECK(writer.write(piece));
      written += piece.size();
    }
    queue->push_used(chain_.head, static_cast<std::uint32_t>(written));
    used = true;
  }
  if (used) session.signal_used(index);
}

}  // namespace msb::devices
