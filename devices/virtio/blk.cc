// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/blk.h"

#include <algorithm>
#include <array>

#include "base/check.h"

namespace msb::devices {
namespace {

// 5.2.3: feature bits
constexpr std::uint64_t kSegMax = std::uint64_t{1} << 2;
constexpr std::uint64_t kReadOnly = std::uint64_t{1} << 5;
constexpr std::uint64_t kBlockSize = std::uint64_t{1} << 6;
constexpr std::uint64_t kFlush = std::uint64_t{1} << 9;
constexpr std::uint64_t kTopology = std::uint64_t{1} << 10;
constexpr std::uint64_t kMultiQueue = std::uint64_t{1} << 12;
constexpr std::uint64_t kDiscard = std::uint64_t{1} << 13;
constexpr std::uint64_t kWriteZeroes = std::uint64_t{1} << 14;

// 5.2.4: struct virtio_blk_config
struct Config {
  Le64 capacity;
  Le32 size_max;
  Le32 seg_max;
  Le32 geometry;
  Le32 blk_size;
  std::uint8_t physical_block_exp;
  std::uint8_t alignment_offset;
  Le16 min_io_size;
  Le32 opt_io_size;
  std::uint8_t writeback;
  std::uint8_t unused0;
  Le16 num_queues;
  Le32 max_discard_sectors;
  Le32 max_discard_seg;
  Le32 discard_sector_alignment;
  Le32 max_write_zeroes_sectors;
  Le32 max_write_zeroes_seg;
  std::uint8_t write_zeroes_may_unmap;
  std::array<std::uint8_t, 3> unused1;
};
static_assert(sizeof(Config) == 60);

// 5.2.6: struct virtio_blk_req
struct RequestHeader {
  Le32 type;
  Le32 reserved;
  Le64 sector;
};
static_assert(sizeof(RequestHeader) == 16);
enum RequestType : std::uint32_t {
  kTypeIn = 0,
  kTypeOut = 1,
  kTypeFlush = 4,
  kTypeGetId = 8,
  kTypeDiscard = 11,
  kTypeWriteZeroes = 13,
};
constexpr std::uint8_t kStatusOk = 0;
constexpr std::uint8_t kStatusIoError = 1;
constexpr std::uint8_t kStatusUnsupported = 2;

// 5.2.6: struct virtio_blk_discard_write_zeroes
struct EraseSegment {
  Le64 sector;
  Le32 sectors;
  Le32 flags;
};
static_assert(sizeof(EraseSegment) == 16);
constexpr std::uint32_t kEraseUnmap = 1;

constexpr std::uint64_t kSector = 512;
constexpr std::size_t kIdBytes = 20;
constexpr std::uint32_t kMaxEraseSegments = 32;
constexpr std::uint32_t kMaxEraseSectors = (std::uint32_t{1} << 30) / kSector;
// Work per call: bounds how long a reset waits for the lease.
constexpr int kRequestsPerCall = 32;
// Completions are announced together, but never held back behind much more work.
constexpr std::uint32_t kSignalAfterRequests = 8;
constexpr std::uint64_t kSignalAfterBytes = 128 * 1024;

Bytes make_config(const BlockBackend& backend, std::uint16_t queues, std::uint16_t queue_size) {
  Config config{};
  config.capacity = Le64(backend.size() / kSector);
  // 5.2.4: header and status take a descriptor each.
  config.seg_max = Le32(queue_size - 2u);
  config.blk_size = Le32(kSector);
  config.physical_block_exp = 3;  // 4 KiB, so that filesystems align to the host's pages
  config.min_io_size = Le16(8);
  config.num_queues = Le16(queues);
  config.max_discard_sectors = config.max_write_zeroes_sectors = Le32(kMaxEraseSectors);
  config.max_discard_seg = config.max_write_zeroes_seg = Le32(kMaxEraseSegments);
  config.discard_sector_alignment = Le32(8);
  config.write_zeroes_may_unmap = 1;
  ByteWriter writer;
  writer.put(config);
  return std::move(writer).take();
}

}  // namespace

Blk::Blk(EventLoop& loop, std::vector<EventLoop*> queue_loops, std::unique_ptr<BlockBackend> backend,
         Options options)
    : Device(make_config(*backend, static_cast<std::uint16_t>(queue_loops.size()), options.queue_size)),
      loop_(loop),
      backend_(std::move(backend)),
      options_(std::move(options)),
      queues_(queue_loops.size()),
      queue_sizes_(queue_loops.size(), options_.queue_size) {
  MSB_CHECK(!queue_loops.empty() && queue_loops.size() <= 64 && options_.queue_size >= 4);
  for (std::size_t i = 0; i < queues_.size(); ++i) queues_[i].loop = queue_loops[i];
  options_.id.resize(std::min(options_.id.size(), kIdBytes));
}

std::uint64_t Blk::features() const {
  const std::uint64_t common = kSegMax | kBlockSize | kTopology | (queues_.size() > 1 ? kMultiQueue : 0);
  return common | (backend_->read_only() ? kReadOnly : kFlush | kDiscard | kWriteZeroes);
}

void Blk::process(DriverSession& session, std::uint16_t index) {
  Queue* queue = session.queue(index);
  QueueState& state = queues_[index];
  if (queue == nullptr || session.failed()) return;
  if (state.waiting_for.get() == &session) return;
  std::uint32_t unsignalled = 0;
  std::uint64_t unsignalled_bytes = 0;
  queue->disable_kicks();
  for (int done = 0;; ++done) {
    const Queue::Pop pop = queue->pop(state.chain);
    if (pop == Queue::Pop::kBroken) {
      session.fail(queue->broken_reason());
      return;
    }
    if (pop == Queue::Pop::kEmpty) {
      if (queue->enable_kicks()) continue;
      break;
    }
    if (done >= kRequestsPerCall) {
      queue->undo_pop();
      session.kick_again(index);
      break;
    }
    if (state.chain.writable_bytes == 0 || state.chain.readable_bytes < sizeof(RequestHeader)) {
      session.fail("block request without a header or room for its status");
      return;
    }
    const Outcome outcome = handle(session, state);
    if (outcome.retry > Duration{0}) {
      queue->undo_pop();
      wait_and_retry(session, index, outcome.retry);
      break;
    }
    if (outcome.status != kStatusOk) counters_.errors.fetch_add(1, std::memory_order_relaxed);
    vmm::RangeWriter tail = state.chain.writer();
    MSB_CHECK(tail.skip(state.chain.writable_bytes - 1) && tail.write(ByteView(&outcome.status, 1)));
    queue->push_used(state.chain.head, outcome.written + 1);
    unsignalled_bytes += state.chain.readable_bytes + std::uint64_t{state.chain.writable_bytes};
    if (++unsignalled >= kSignalAfterRequests || unsignalled_bytes >= kSignalAfterBytes) {
      session.signal_used(index);
      unsignalled = 0;
      unsignalled_bytes = 0;
    }
  }
  if (unsignalled > 0) session.signal_used(index);
}

void Blk::wait_and_retry(DriverSession& session, std::uint16_t index, Duration delay) {
  counters_.delayed.fetch_add(1, std::memory_order_relaxed);
  QueueState& state = queues_[index];
  state.waiting_for = session.shared_from_this();
  state.loop->add_timer_after(delay, [this, index, waiting = state.waiting_for] {
    if (queues_[index].waiting_for != waiting) return;
    queues_[index].waiting_for = nullptr;
    if (const auto lease = waiting->enter()) process(*waiting, index);
  });
}

Blk::Outcome Blk::handle(DriverSession& session, QueueState& state) {
  vmm::RangeReader reader = state.chain.reader();
  const auto header = reader.read<RequestHeader>();
  MSB_CHECK(header.has_value());  // the caller saw that it fits
  switch (header->type.get()) {
    case kTypeIn:
      return transfer(session, state, IoKind::kRead, header->sector.get());
    case kTypeOut:
      return transfer(session, state, IoKind::kWrite, header->sector.get());
    case kTypeFlush: {
      if (const Duration wait = admit(state, IoKind::kFlush, 0); wait > Duration{0}) return {.retry = wait};
      counters_.flushes.fetch_add(1, std::memory_order_relaxed);
      return outcome_of(state, backend_->flush(), 0);
    }
    case kTypeGetId:
      return identify(state);
    case kTypeDiscard:
      if (!session.has(kDiscard)) return {.status = kStatusUnsupported};
      return erase(state, kTypeDiscard);
    case kTypeWriteZeroes:
      if (!session.has(kWriteZeroes)) return {.status = kStatusUnsupported};
      return erase(state, kTypeWriteZeroes);
    default:
      return {.status = kStatusUnsupported};
  }
}

Blk::Outcome Blk::transfer(DriverSession& session, QueueState& state, IoKind kind, std::uint64_t sector) {
  const bool reading = kind == IoKind::kRead;
  const std::uint32_t bytes =
      reading ? state.chain.writable_bytes - 1
              : state.chain.readable_bytes - static_cast<std::uint32_t>(sizeof(RequestHeader));
  if (bytes % kSector != 0 || !in_range(sector, bytes / kSector)) return {.status = kStatusIoError};
  if (!reading && backend_->read_only()) return {.status = kStatusIoError};
  if (const Duration wait = admit(state, kind, bytes); wait > Duration{0}) return {.retry = wait};
  state.data.clear();
  if (reading) {
    vmm::RangeWriter to = state.chain.writer();
    MSB_CHECK(to.take(bytes, state.data));
    counters_.reads.fetch_add(1, std::memory_order_relaxed);
    counters_.read_bytes.fetch_add(bytes, std::memory_order_relaxed);
    return outcome_of(state, backend_->read(state.data, sector * kSector), bytes);
  }
  vmm::RangeReader from = state.chain.reader();
  MSB_CHECK(from.skip(sizeof(RequestHeader)) && from.take(bytes, state.data));
  counters_.writes.fetch_add(1, std::memory_order_relaxed);
  counters_.written_bytes.fetch_add(bytes, std::memory_order_relaxed);
  // 5.2.6.2: a driver without FLUSH counts on write-through.
  const auto durability =
      session.has(kFlush) ? BlockBackend::Durability::kCached : BlockBackend::Durability::kSynced;
  return outcome_of(state, backend_->write(state.data, sector * kSector, durability), 0);
}

Blk::Outcome Blk::erase(QueueState& state, std::uint32_t type) {
  const std::uint32_t bytes = state.chain.readable_bytes - static_cast<std::uint32_t>(sizeof(RequestHeader));
  const std::uint32_t count = bytes / static_cast<std::uint32_t>(sizeof(EraseSegment));
  if (bytes % sizeof(EraseSegment) != 0 || count == 0 || count > kMaxEraseSegments)
    return {.status = kStatusIoError};
  // All are checked before the first is done.
  std::array<EraseSegment, kMaxEraseSegments> segments;
  vmm::RangeReader reader = state.chain.reader();
  MSB_CHECK(reader.skip(sizeof(RequestHeader)));
  std::uint64_t total = 0;
  for (std::uint32_t i = 0; i < count; ++i) {
    const auto segment = reader.read<EraseSegment>();
    MSB_CHECK(segment.has_value());
    const std::uint32_t allowed = type == kTypeWriteZeroes ? kEraseUnmap : 0;
    if ((segment->flags.get() & ~allowed) != 0) return {.status = kStatusUnsupported};
    if (segment->sectors.get() > kMaxEraseSectors ||
        !in_range(segment->sector.get(), segment->sectors.get())) {
      return {.status = kStatusIoError};
    }
    total += segment->sectors.get() * kSector;
    segments[i] = *segment;
  }
  if (const Duration wait = admit(state, IoKind::kErase, total); wait > Duration{0}) return {.retry = wait};
  for (std::uint32_t i = 0; i < count; ++i) {
    const std::uint64_t offset = segments[i].sector.get() * kSector;
    const std::uint64_t length = segments[i].sectors.get() * kSector;
    if (length == 0) continue;
    const bool may_free = (segments[i].flags.get() & kEraseUnmap) != 0;
    const Status status = type == kTypeDiscard
                              ? backend_->discard(offset, length)
                              : backend_->write_zeroes(offset, length,
                                                       may_free ? BlockBackend::Allocation::kMayFree
                                                                : BlockBackend::Allocation::kKeep);
    if (!status.ok()) return outcome_of(state, status, 0);
  }
  return outcome_of(state, Status(), 0);
}

Blk::Outcome Blk::identify(QueueState& state) {
  std::array<std::uint8_t, kIdBytes> id{};
  std::copy(options_.id.begin(), options_.id.end(), id.begin());
  const std::uint32_t length = std::min<std::uint32_t>(kIdBytes, state.chain.writable_bytes - 1);
  vmm::RangeWriter writer = state.chain.writer();
  MSB_CHECK(writer.write(ByteView(id).first(length)));
  return {.status = kStatusOk, .written = length};
}

Blk::Outcome Blk::outcome_of(QueueState& state, const Status& status, std::uint32_t written) {
  const bool full = !status.ok() && status.error().code == Errc::kNoSpace;
  if (full != state.disk_full && (full || status.ok())) {
    state.disk_full = full;
    if (options_.on_disk_full) options_.on_disk_full(full);
  }
  if (full) return {.retry = options_.retry_full_disk};
  if (!status.ok()) return {.status = kStatusIoError};
  return {.status = kStatusOk, .written = written};
}

Duration Blk::admit(QueueState& state, IoKind kind, std::uint64_t bytes) {
  return options_.governor != nullptr ? options_.governor->admit(kind, bytes, state.loop->now())
                                      : Duration{0};
}

bool Blk::in_range(std::uint64_t sector, std::uint64_t sectors) const {
  const std::uint64_t capacity = backend_->size() / kSector;
  return sector <= capacity && sectors <= capacity - sector;
}

}  // namespace msb::devices
