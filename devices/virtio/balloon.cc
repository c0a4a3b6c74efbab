// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/balloon.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace msb::devices {
namespace {

// 5.5.3: feature bits
constexpr std::uint64_t kStatsQueue = std::uint64_t{1} << 1;
constexpr std::uint64_t kDeflateOnOom = std::uint64_t{1} << 2;
constexpr std::uint64_t kPageReporting = std::uint64_t{1} << 5;

// 5.5.4: u32 num_pages, u32 actual, u32 free_page_hint_cmd_id, u32 poison_val
constexpr std::size_t kConfigBytes = 16;
constexpr std::uint32_t kTargetOffset = 0;
constexpr std::uint32_t kActualOffset = 4;

constexpr unsigned kFrameShift = 12;
constexpr std::uint32_t kMaxFrames = 1024;  // per buffer; drivers send 256
constexpr int kBuffersPerCall = 16;
constexpr int kMaxStats = 32;

// 5.5.6.4: struct virtio_balloon_stat
struct Stat {
  Le16 tag;
  Le64 value;
};
static_assert(sizeof(Stat) == 10);

Bytes le32(std::uint32_t value) {
  ByteWriter writer;
  writer.put(Le32(value));
  return std::move(writer).take();
}

}  // namespace

Balloon::Balloon(EventLoop& loop) : Device(Bytes(kConfigBytes)), loop_(loop) {}

std::uint64_t Balloon::features() const { return kStatsQueue | kDeflateOnOom | kPageReporting; }
Device::ConfigWindow Balloon::writable_config() const { return {kActualOffset, kActualOffset + 4}; }

void Balloon::activate(std::shared_ptr<DriverSession> session) { session_ = std::move(session); }

void Balloon::reset() {
  session_ = nullptr;
  holds_stats_ = false;
  on_stats_ = nullptr;
  actual_.store(0, std::memory_order_relaxed);
  config_space().update(kActualOffset, le32(0));
}

// The held buffer goes back into the ring, so that it survives a save; resuming finds it again.
void Balloon::pause() {
  if (!holds_stats_) return;
  holds_stats_ = false;
  session_->queue(stats_queue_)->undo_pop();
}

void Balloon::config_written(std::uint32_t offset, ByteView bytes) {
  if (offset != kActualOffset || bytes.size() != 4) return;
  const auto value = ByteReader(bytes).take<Le32>();
  actual_.store(value->get(), std::memory_order_relaxed);
  config_space().update(kActualOffset, bytes);
}

void Balloon::set_target(std::uint32_t pages) {
  config_space().update(kTargetOffset, le32(pages));
  const std::shared_ptr<DriverSession> session = session_;
  if (session == nullptr) return;
  if (const auto lease = session->enter()) session->signal_config();
}

Balloon::Role Balloon::role_of(const DriverSession& session, std::uint16_t queue) {
  std::uint16_t next = 2;
  if (queue == 0) return Role::kInflate;
  if (queue == 1) return Role::kDeflate;
  if (session.has(kStatsQueue) && queue == next++) return Role::kStats;
  if (session.has(kPageReporting) && queue == next++) return Role::kReporting;
  return Role::kNone;
}

void Balloon::process(DriverSession& session, std::uint16_t index) {
  Queue* queue = session.queue(index);
  const Role role = role_of(session, index);
  if (queue == nullptr || session.failed() || role == Role::kNone) return;
  if (role == Role::kStats) return process_stats(session, index);
  bool used = false;
  for (int done = 0;; ++done) {
    const Queue::Pop pop = queue->pop(chain_);
    if (pop == Queue::Pop::kBroken) return session.fail(queue->broken_reason());
    if (pop == Queue::Pop::kEmpty) {
      if (queue->enable_kicks()) continue;
      break;
    }
    if (done >= kBuffersPerCall) {
      queue->undo_pop();
      session.kick_again(index);
      break;
    }
    if (!handle(session, role)) return session.fail("balloon buffer of a shape that is not allowed");
    queue->push_used(chain_.head, 0);
    used = true;
  }
  if (used) session.signal_used(index);
}

bool Balloon::handle(DriverSession& session, Role role) {
  if (role == Role::kReporting) {
    if (chain_.readable_bytes != 0) return false;
    report(session);
    return true;
  }
  const std::uint32_t count = chain_.readable_bytes / 4;
  if (chain_.readable_bytes % 4 != 0 || count > kMaxFrames) return false;
  if (role == Role::kInflate) {
    inflate(session);
  } else {
    counters_.deflated_pages.fetch_add(count, std::memory_order_relaxed);
  }
  return true;
}

void Balloon::inflate(DriverSession& session) {
  frames_.clear();
  vmm::RangeReader reader = chain_.reader();
  while (const auto frame = reader.read<Le32>()) frames_.push_back(frame->get());  // at most kMaxFrames
  counters_.inflated_pages.fetch_add(frames_.size(), std::memory_order_relaxed);
  std::sort(frames_.begin(), frames_.end());
  for (std::size_t i = 0; i < frames_.size();) {
    std::size_t next = i + 1;
    while (next < frames_.size() && frames_[next] - frames_[next - 1] <= 1) ++next;
    const std::uint64_t pages = std::uint64_t{frames_[next - 1]} - frames_[i] + 1;
    const vmm::Gpa start{std::uint64_t{frames_[i]} << kFrameShift};
    // A page outside RAM is the guest's nonsense; the host's refusal costs memory only.
    if (!session.memory().discard(start, pages << kFrameShift).ok()) {
      counters_.refused.fetch_add(1, std::memory_order_relaxed);
    }
    i = next;
  }
}

void Balloon::report(DriverSession& session) {
  for (const vmm::HostRange& range : chain_.writable) {  // at most queue-size descriptors
    if (session.memory().discard(range).ok()) {
      counters_.reported_bytes.fetch_add(range.iov_len, std::memory_order_relaxed);
    } else {
      counters_.refused.fetch_add(1, std::memory_order_relaxed);
    }
  }
}

// 5.5.6.3: the driver leaves one buffer with us; returning it is the request, the next buffer the answer.
void Balloon::process_stats(DriverSession& session, std::uint16_t index) {
  Queue* queue = session.queue(index);
  const Queue::Pop pop = queue->pop(chain_);
  if (pop == Queue::Pop::kBroken) return session.fail(queue->broken_reason());
  if (pop == Queue::Pop::kEmpty) {
    if (queue->enable_kicks()) session.kick_again(index);
    return;
  }
  if (holds_stats_) {
    // More than one buffer breaks the protocol, harmlessly: the older goes back.
    queue->push_used(stats_head_, 0);
    session.signal_used(index);
  }
  holds_stats_ = true;
  stats_head_ = chain_.head;
  stats_queue_ = index;
  Stats stats;
  vmm::RangeReader reader = chain_.reader();
  for (int i = 0; i < kMaxStats; ++i) {
    const auto stat = reader.read<Stat>();
    if (!stat) break;
    const std::uint64_t value = stat->value.get();
    switch (stat->tag.get()) {
      case 0:
        stats.swap_in = value;
        break;
      case 1:
        stats.swap_out = value;
        break;
      case 2:
        stats.major_faults = value;
        break;
      case 3:
        stats.minor_faults = value;
        break;
      case 4:
        stats.free = value;
        break;
      case 5:
        stats.total = value;
        break;
      case 6:
        stats.available = value;
        break;
      case 7:
        stats.caches = value;
        break;
      default:
        break;
    }
  }
  if (on_stats_) std::exchange(on_stats_, nullptr)(stats);
  if (queue->enable_kicks()) session.kick_again(index);
}

bool Balloon::request_stats(OnStats done) {
  const std::shared_ptr<DriverSession> session = session_;
  if (session == nullptr || !holds_stats_) return false;
  const auto lease = session->enter();
  if (!lease || session->failed()) return false;
  holds_stats_ = false;
  on_stats_ = std::move(done);
  session->queue(stats_queue_)->push_used(stats_head_, 0);
  session->signal_used(stats_queue_);
  return true;
}

}  // namespace msb::devices
