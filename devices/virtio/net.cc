// SPDX-License-Identifier: Apache-2.0
#include "devices/virtio/net.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>

#include "base/check.h"

namespace msb::devices {
namespace {

// 5.1.3: feature bits
constexpr std::uint64_t bit(unsigned n) { return std::uint64_t{1} << n; }
constexpr std::uint64_t kCsum = bit(0);
constexpr std::uint64_t kGuestCsum = bit(1);
constexpr std::uint64_t kMtu = bit(3);
constexpr std::uint64_t kMac = bit(5);
constexpr std::uint64_t kGuestTso4 = bit(7);
constexpr std::uint64_t kGuestTso6 = bit(8);
constexpr std::uint64_t kGuestEcn = bit(9);
constexpr std::uint64_t kHostTso4 = bit(11);
constexpr std::uint64_t kHostTso6 = bit(12);
constexpr std::uint64_t kHostEcn = bit(13);
constexpr std::uint64_t kMergeable = bit(15);
constexpr std::uint64_t kStatus = bit(16);
constexpr std::uint64_t kGuestOffloads = kGuestCsum | kGuestTso4 | kGuestTso6;
constexpr std::uint64_t kHostOffloads = kCsum | kHostTso4 | kHostTso6;

// 5.1.6: struct virtio_net_hdr, with num_buffers always there (VERSION_1)
struct NetHeader {
  std::uint8_t flags = 0;
  std::uint8_t gso_type = 0;
  Le16 hdr_len;
  Le16 gso_size;
  Le16 csum_start;
  Le16 csum_offset;
  Le16 num_buffers;
};
static_assert(sizeof(NetHeader) == 12);
constexpr std::size_t kHeaderBytes = sizeof(NetHeader);
constexpr std::uint8_t kNeedsCsum = 1;
constexpr std::uint8_t kDataValid = 2;
constexpr std::uint8_t kGsoNone = 0;
constexpr std::uint8_t kGsoTcp4 = 1;
constexpr std::uint8_t kGsoTcp6 = 4;
constexpr std::uint8_t kGsoEcn = 0x80;

// 5.1.4: struct virtio_net_config up to mtu
constexpr std::size_t kStatusOffset = 6;
constexpr std::uint16_t kLinkUp = 1;

constexpr std::size_t kEthernetHeader = 14;
// An IPv6 packet of full length, its fixed header, Ethernet with a VLAN tag.
constexpr std::size_t kMaxFrame = 65535 + 40 + 18;
constexpr std::size_t kLengthBytes = 4;
constexpr std::size_t kStreamBytes = 256 * 1024;
static_assert(kStreamBytes >= 2 * (kLengthBytes + kHeaderBytes + kMaxFrame));
constexpr std::size_t kMaxRanges = 512;
constexpr int kBatchesPerCall = 4;
constexpr int kFramesPerCall = 256;
constexpr std::size_t kMaxMerged = 256;

Bytes make_config(const Net::Options& options) {
  ByteWriter writer;
  writer.put_bytes(options.mac);
  writer.put(Le16(kLinkUp));
  writer.put(Le16(1));  // max_virtqueue_pairs
  writer.put(Le16(options.mtu));
  return std::move(writer).take();
}

// The Internet checksum over `data`, stored at `offset`: for a frame whose receiver cannot do it.
bool complete_checksum(MutableBytes frame, std::size_t start, std::size_t offset) {
  if (start > frame.size() || offset > frame.size() - start || frame.size() - start - offset < 2)
    return false;
  std::uint64_t sum = 0;
  for (std::size_t i = start; i < frame.size(); i += 2) {
    const unsigned low = i + 1 < frame.size() ? frame[i + 1] : 0u;
    sum += (static_cast<unsigned>(frame[i]) << 8) | low;
  }
  while (sum >> 16 != 0) sum = (sum & 0xffff) + (sum >> 16);
  const auto checksum = static_cast<std::uint16_t>(~sum);
  frame[start + offset] = static_cast<std::uint8_t>(checksum >> 8);
  frame[start + offset + 1] = static_cast<std::uint8_t>(checksum);
  return true;
}

}  // namespace

Net::Net(EventLoop& loop, UniqueFd frames, Options options)
    : Device(make_config(options)),
      loop_(loop),
      frames_(std::move(frames)),
      options_(options),
      prefix_(options.framing == Framing::kVirtioHeader ? kHeaderBytes : 0) {}

Net::~Net() { loop_.remove(token_); }

std::uint64_t Net::features() const {
  const std::uint64_t offloads =
      options_.framing == Framing::kVirtioHeader ? kGuestOffloads | kGuestEcn | kHostOffloads | kHostEcn : 0;
  return kMac | kMtu | kStatus | kMergeable | offloads;
}

// 5.1.3.1: what each feature requires.
bool Net::accepts(std::uint64_t features) const {
  const auto has = [features](std::uint64_t any) { return (features & any) != 0; };
  if (has(kGuestTso4 | kGuestTso6) && !has(kGuestCsum)) return false;
  if (has(kHostTso4 | kHostTso6) && !has(kCsum)) return false;
  if (has(kGuestEcn) && !has(kGuestTso4 | kGuestTso6)) return false;
  if (has(kHostEcn) && !has(kHostTso4 | kHostTso6)) return false;
  return true;
}

void Net::activate(std::shared_ptr<DriverSession> session) {
  session_ = std::move(session);
  starved_ = false;
  if (stream_.empty()) stream_.resize(kStreamBytes);
  update_watch();
}

void Net::reset() {
  session_ = nullptr;
  starved_ = false;
  update_watch();
}

void Net::pause() {
  paused_ = true;
  update_watch();
}

void Net::resume() {
  paused_ = false;
  starved_ = false;  // process() follows and finds out anew
  update_watch();
}

void Net::process(DriverSession& session, std::uint16_t queue) {
  if (session.queue(queue) == nullptr || session.failed()) return;
  if (queue == kTransmit) process_transmit(session);
  if (queue == kReceive) process_receive(session);
  update_watch();
}

void Net::on_socket(std::uint32_t events) {
  const std::shared_ptr<DriverSession> session = session_;
  if (session == nullptr) return;
  const auto lease = session->enter();
  if (!lease) return;
  if (session->failed()) {
    session_ = nullptr;
    return update_watch();
  }
  const bool ended = (events & (EPOLLHUP | EPOLLERR)) != 0;
  if (ended || (events & EPOLLOUT) != 0) {
    blocked_ = false;
    process(*session, kTransmit);
  }
  if (ended || (events & EPOLLIN) != 0) process(*session, kReceive);
}

// ---- guest to host

void Net::process_transmit(DriverSession& session) {
  Queue* queue = session.queue(kTransmit);
  queue->disable_kicks();
  flush_kept();
  for (int batch = 0; !blocked_; ++batch) {
    if (batch >= kBatchesPerCall) return session.kick_again(kTransmit);
    const std::size_t frames = gather(session);
    if (session.failed()) return;
    if (frames > 0) {
      send_batch(session, frames);
      session.signal_used(kTransmit);
    } else if (!queue->has_available() && !queue->enable_kicks()) {
      return;
    }
  }
}

// Pops up to kBatch frames into chains_ and lists them in ranges_, each behind its length. A buffer that
// holds no frame is given back at once, when it is the first; else it ends the batch, since only the newest
// can be undone.
std::size_t Net::gather(DriverSession& session) {
  Queue* queue = session.queue(kTransmit);
  std::size_t frames = 0;
  ranges_.clear();
  while (frames < kBatch && ranges_.size() < kMaxRanges) {
    Chain& chain = chains_[frames];
    const Queue::Pop pop = queue->pop(chain);
    if (pop == Queue::Pop::kBroken) {
      session.fail(queue->broken_reason());
      return 0;
    }
    if (pop == Queue::Pop::kEmpty) break;
    const bool whole = chain.readable_bytes >= kHeaderBytes + kEthernetHeader &&
                       chain.readable_bytes <= kHeaderBytes + kMaxFrame;
    if (!whole || !frames_) {
      if (frames > 0) {
        queue->undo_pop();
        break;
      }
      counters_.from_guest_dropped.fetch_add(1, std::memory_order_relaxed);
      queue->push_used(chain.head, 0);
      session.signal_used(kTransmit);
      break;
    }
    const auto length = static_cast<std::uint32_t>(chain.readable_bytes - kHeaderBytes + prefix_);
    lengths_[frames] = Be32(length);
    ranges_.push_back({&lengths_[frames], kLengthBytes});
    vmm::RangeReader reader = chain.reader();
    MSB_CHECK(reader.skip(kHeaderBytes - prefix_) && reader.take(length, ranges_));
    ++frames;
  }
  return frames;
}

// Sends chains_[0..frames) in one call; gives back those that went out whole or in part (the rest of that one
// is kept) and puts the others back into the queue.
void Net::send_batch(DriverSession& session, std::size_t frames) {
  Queue* queue = session.queue(kTransmit);
  msghdr message{};
  message.msg_iov = ranges_.data();
  message.msg_iovlen = ranges_.size();
  const ssize_t result = ::sendmsg(frames_.get(), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
  if (result < 0 && errno == EINTR) return queue->undo_pop(static_cast<std::uint16_t>(frames));
  if (result < 0 && errno != EAGAIN) {
    queue->undo_pop(static_cast<std::uint16_t>(frames));
    return link_down();  // the next round drops them
  }
  std::uint64_t sent = result > 0 ? static_cast<std::uint64_t>(result) : 0;
  std::size_t done = 0;
  while (done < frames && sent > 0) {
    const std::uint64_t whole = kLengthBytes + lengths_[done].get();
    if (sent < whole) keep_rest(chains_[done], lengths_[done], sent);
    sent -= std::min(sent, whole);
    queue->push_used(chains_[done].head, 0);
    counters_.from_guest_frames.fetch_add(1, std::memory_order_relaxed);
    counters_.from_guest_bytes.fetch_add(whole - kLengthBytes - prefix_, std::memory_order_relaxed);
    ++done;
  }
  queue->undo_pop(static_cast<std::uint16_t>(frames - done));
  if (done < frames) blocked_ = true;
}

void Net::keep_rest(const Chain& chain, Be32 length, std::uint64_t sent) {
  Bytes frame(kLengthBytes + length.get());
  std::copy_n(reinterpret_cast<const std::uint8_t*>(&length), kLengthBytes, frame.begin());
  vmm::RangeReader reader = chain.reader();
  MSB_CHECK(reader.skip(kHeaderBytes - prefix_) && reader.read(MutableBytes(frame).subspan(kLengthBytes)));
  kept_ = std::move(frame);
  kept_start_ = sent;
  blocked_ = true;
}

void Net::flush_kept() {
  while (!blocked_ && kept_start_ < kept_.size()) {  // each round sends some or leaves
    const ssize_t sent = ::send(frames_.get(), kept_.data() + kept_start_, kept_.size() - kept_start_,
                                MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent >= 0) {
      kept_start_ += static_cast<std::size_t>(sent);
    } else if (errno == EAGAIN) {
      blocked_ = true;
      return;
    } else if (errno != EINTR) {
      return link_down();
    }
  }
  if (!blocked_) {
    kept_ = {};
    kept_start_ = 0;
  }
}

// ---- host to guest

void Net::process_receive(DriverSession& session) {
  starved_ = false;
  bool used = false;
  for (int frames = 0;;) {
    const std::size_t have = end_ - begin_;
    std::size_t length = 0;
    if (have >= kLengthBytes) {
      Be32 wire;
      std::memcpy(&wire, stream_.data() + begin_, sizeof wire);
      length = wire.get();
      if (length < prefix_ || length > prefix_ + kMaxFrame) {
        link_down();
        break;
      }
    }
    if (have < kLengthBytes || have - kLengthBytes < length) {
      if (!fill()) break;
      continue;
    }
    if (++frames > kFramesPerCall) {
      session.kick_again(kReceive);
      break;
    }
    const Delivered delivered =
        deliver(session, MutableBytes(stream_).subspan(begin_ + kLengthBytes, length));
    if (delivered == Delivered::kBroken) return;
    if (delivered == Delivered::kNoBuffers) {
      starved_ = true;
      break;
    }
    used = used || delivered == Delivered::kYes;
    begin_ += kLengthBytes + length;
  }
  if (used) session.signal_used(kReceive);
}

// Reads more of the stream; false when there is nothing now, or never again.
bool Net::fill() {
  if (!frames_) return false;
  if (begin_ == end_) begin_ = end_ = 0;
  if (stream_.size() - begin_ < kLengthBytes + prefix_ + kMaxFrame) {
    std::copy(stream_.begin() + static_cast<std::ptrdiff_t>(begin_),
              stream_.begin() + static_cast<std::ptrdiff_t>(end_), stream_.begin());
    end_ -= begin_;
    begin_ = 0;
  }
  const ssize_t got = ::recv(frames_.get(), stream_.data() + end_, stream_.size() - end_, MSG_DONTWAIT);
  if (got > 0) {
    end_ += static_cast<std::size_t>(got);
    return true;
  }
  if (got == 0 || (errno != EAGAIN && errno != EINTR)) link_down();
  return false;
}

// The header for the guest, from the peer's where there is one. What the guest did not agree to is completed
// here (checksum) or refused (segmentation): false.
bool Net::prepare(DriverSession& session, MutableBytes& frame, Header& out) {
  NetHeader header;
  const MutableBytes whole = frame;
  if (prefix_ > 0) {
    std::memcpy(&header, frame.data(), sizeof header);
    frame = frame.subspan(prefix_);
    header.flags &= kNeedsCsum | kDataValid;
  }
  if (frame.size() < kEthernetHeader) return false;
  const auto gso = static_cast<std::uint8_t>(header.gso_type & ~kGsoEcn);
  const bool agreed = gso == kGsoNone || (gso == kGsoTcp4 && session.has(kGuestTso4)) ||
                      (gso == kGsoTcp6 && session.has(kGuestTso6));
  if (!agreed || ((header.gso_type & kGsoEcn) != 0 && !session.has(kGuestEcn))) return false;
  if (!session.has(kGuestCsum)) {
    if ((header.flags & kNeedsCsum) != 0 &&
        !complete_checksum(frame, header.csum_start.get(), header.csum_offset.get())) {
      return false;
    }
    header.flags = 0;
    header.csum_start = header.csum_offset = Le16(0);
    // Into the stream buffer too: the frame comes by here again if the guest has no buffers now.
    if (prefix_ > 0) std::memcpy(whole.data(), &header, sizeof header);
  }
  header.num_buffers = Le16(1);
  std::memcpy(out.data(), &header, sizeof header);
  return true;
}

Net::Delivered Net::deliver(DriverSession& session, MutableBytes frame) {
  Queue* queue = session.queue(kReceive);
  const auto drop = [this] {
    counters_.to_guest_dropped.fetch_add(1, std::memory_order_relaxed);
    return Delivered::kDropped;
  };
  Header header;
  if (!prepare(session, frame, header)) return drop();
  const std::uint64_t wanted = header.size() + frame.size();
  const std::size_t limit = session.has(kMergeable) ? std::min<std::size_t>(queue->size(), kMaxMerged) : 1;
  std::uint64_t room = 0;
  std::size_t count = 0;
  while (room < wanted && count < limit) {
    if (merge_.size() <= count) merge_.emplace_back();
    const Queue::Pop pop = queue->pop(merge_[count]);
    if (pop == Queue::Pop::kBroken) {
      session.fail(queue->broken_reason());
      return Delivered::kBroken;
    }
    if (pop == Queue::Pop::kEmpty) {
      if (queue->enable_kicks()) continue;
      queue->undo_pop(static_cast<std::uint16_t>(count));
      return Delivered::kNoBuffers;
    }
    if (merge_[count].writable_bytes < (count == 0 ? header.size() : 1)) {
      session.fail("network receive buffer is too small");
      return Delivered::kBroken;
    }
    room += merge_[count].writable_bytes;
    ++count;
  }
  if (room < wanted) {
    queue->undo_pop(static_cast<std::uint16_t>(count));
    return drop();  // it would never fit
  }
  const Le16 buffers(static_cast<std::uint16_t>(count));
  std::memcpy(header.data() + offsetof(NetHeader, num_buffers), &buffers, sizeof buffers);
  counters_.to_guest_frames.fetch_add(1, std::memory_order_relaxed);
  counters_.to_guest_bytes.fetch_add(frame.size(), std::memory_order_relaxed);
  for (std::size_t i = 0; i < count; ++i) {
    vmm::RangeWriter writer = merge_[i].writer();
    std::size_t written = 0;
    if (i == 0) {
      MSB_CHECK(writer.write(header));
      written = header.size();
    }
    const std::size_t length = std::min<std::size_t>(frame.size(), writer.remaining());
    MSB_CHECK(writer.write(frame.first(length)));
    frame = frame.subspan(length);
    queue->push_used(merge_[i].head, static_cast<std::uint32_t>(written + length));
  }
  return Delivered::kYes;
}

// ---- the socket

void Net::link_down() {
  loop_.remove(token_);
  token_ = {};
  frames_.reset();
  kept_ = {};
  kept_start_ = begin_ = end_ = 0;
  blocked_ = false;
  const Le16 down(0);
  config_space().update(kStatusOffset, ByteView(reinterpret_cast<const std::uint8_t*>(&down), sizeof down));
  if (session_ != nullptr) session_->signal_config();
}

void Net::update_watch() {
  std::uint32_t wanted = 0;
  if (session_ != nullptr && frames_ && !paused_) {
    if (!starved_) wanted |= EPOLLIN;
    if (blocked_) wanted |= EPOLLOUT;
  }
  // Hang-ups are reported even when nothing is asked for: no registration without interest.
  if (wanted == 0) {
    loop_.remove(token_);
    token_ = {};
  } else if (!token_.valid()) {
    auto token = loop_.add(frames_.get(), wanted, [this](std::uint32_t events) { on_socket(events); });
    if (token.ok()) token_ = *token;
  } else if (watched_ != wanted) {
    static_cast<void>(loop_.modify(token_, wanted));
  }
  watched_ = wanted;
}

}  // namespace msb::devices
