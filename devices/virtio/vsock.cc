// SPDX-License-Identifier: Apache-2.0
// The guest side of Vsock: queues and packets.
#include "devices/virtio/vsock.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>

#include "base/check.h"

namespace msb::devices {
namespace {
constexpr std::uint32_t kHeaderBytes = sizeof(VsockHeader);
constexpr int kPacketsPerCall = 64;
constexpr int kPumpsPerCall = 64;
constexpr std::uint64_t kBytesPerTurn = 256 * 1024;
constexpr std::size_t kMaxStrays = 64;
constexpr std::size_t kMaxRanges = 512;  // with those of one more chain below IOV_MAX
// Host ports of host-initiated connections; below are those a guest connects to.
constexpr std::uint32_t kFirstHostPort = std::uint32_t{1} << 30;

Bytes make_config(std::uint32_t cid) {
  ByteWriter writer;
  writer.put(Le64(cid));
  return std::move(writer).take();
}
std::uint64_t port_key(std::uint32_t host_port, std::uint32_t guest_port) {
  return std::uint64_t{host_port} << 32 | guest_port;
}
}  // namespace

Vsock::Vsock(EventLoop& loop, UniqueFd listener, HostConnector* connector, Options options)
    : Device(make_config(options.guest_cid)),
      loop_(loop),
      listener_(std::move(listener)),
      connector_(connector),
      options_(options),
      next_host_port_(kFirstHostPort),
      alive_(std::make_shared<bool>(true)) {}

Vsock::~Vsock() {
  reset();
  *alive_ = false;
}

void Vsock::activate(std::shared_ptr<DriverSession> session) {
  session_ = std::move(session);
  watch_listener();
}

void Vsock::reset() {
  unwatch_listener();
  session_ = nullptr;
  while (!connections_.empty()) destroy(*connections_.begin()->second);
  ready_.clear();
  handshakes_.clear();
  strays_.clear();
  transmit_stalled_ = false;
  owes_transport_reset_ = false;
}

void Vsock::pause() {
  paused_ = true;
  unwatch_listener();
  for (auto& [id, connection] : connections_) update_watch(*connection);
}

void Vsock::resume() {
  paused_ = false;
  watch_listener();
  // process() follows for every queue, so whoever waits for buffers or credit is looked at again.
  for (auto& [id, connection] : connections_) {
    enqueue(*connection);
    update_watch(*connection);
  }
}

// Connections end with the process; what must survive is that the guest is told so.
Bytes Vsock::save() const { return {}; }
Status Vsock::restore(ByteView state) {
  if (!state.empty()) return make_error(Errc::kInvalid, "vsock state where none is expected");
  owes_transport_reset_ = true;
  return {};
}

void Vsock::process(DriverSession& session, std::uint16_t queue) {
  if (session.failed()) return;
  switch (queue) {
    case kReceive:
      process_receive(session);
      break;
    case kTransmit:
      process_transmit(session);
      break;
    case kEvent:
      process_event(session);
      break;
    default:
      break;
  }
}

void Vsock::process_event(DriverSession& session) {
  Queue* queue = session.queue(kEvent);
  if (queue == nullptr || !owes_transport_reset_) return;
  Chain chain;
  const Queue::Pop pop = queue->pop(chain);
  if (pop == Queue::Pop::kBroken) return session.fail(queue->broken_reason());
  if (pop == Queue::Pop::kEmpty) {
    if (queue->enable_kicks()) session.kick_again(kEvent);
    return;
  }
  vmm::RangeWriter writer = chain.writer();
  const Le32 transport_reset(0);  // 5.10.6.7: VIRTIO_VSOCK_EVENT_TRANSPORT_RESET
  if (!writer.write(transport_reset)) return session.fail("vsock event buffer is too small");
  queue->push_used(chain.head, sizeof transport_reset);
  session.signal_used(kEvent);
  owes_transport_reset_ = false;
  watch_listener();
  session.kick_again(kReceive);
  session.kick_again(kTransmit);
}

// ---- from the guest

void Vsock::process_transmit(DriverSession& session) {
  Queue* queue = session.queue(kTransmit);
  if (queue == nullptr || !may_send()) return;
  bool used = false;
  queue->disable_kicks();
  for (int done = 0;; ++done) {
    if (strays_.size() >= kMaxStrays) {
      transmit_stalled_ = true;  // send_strays() starts us again
      break;
    }
    const Queue::Pop pop = queue->pop(transmit_chain_);
    if (pop == Queue::Pop::kBroken) return session.fail(queue->broken_reason());
    if (pop == Queue::Pop::kEmpty) {
      if (queue->enable_kicks()) continue;
      break;
    }
    if (done >= kPacketsPerCall) {
      queue->undo_pop();
      session.kick_again(kTransmit);
      break;
    }
    vmm::RangeReader reader = transmit_chain_.reader();
    const auto header = reader.read<VsockHeader>();
    if (!header) return session.fail("vsock packet shorter than its header");
    on_packet(session, *header, reader);
    queue->push_used(transmit_chain_.head, 0);
    used = true;
  }
  if (used) session.signal_used(kTransmit);
  if (!ready_.empty() || !strays_.empty()) process_receive(session);
}

void Vsock::on_packet(DriverSession&, const VsockHeader& header, vmm::RangeReader& payload) {
  if (header.source_cid.get() != options_.guest_cid || header.destination_cid.get() != kVsockHostCid) {
    counters_.dropped.fetch_add(1, std::memory_order_relaxed);
    return;
  }
  const std::uint32_t host_port = header.destination_port.get();
  const std::uint32_t guest_port = header.source_port.get();
  const auto op = static_cast<VsockOp>(header.op.get());
  if (header.type.get() != kVsockStream) {
    if (op != VsockOp::kReset) owe_reset(host_port, guest_port, header.type.get());
    return;
  }
  if (Connection* connection = find(host_port, guest_port)) {
    on_connection_packet(*connection, header, payload);
  } else if (op == VsockOp::kRequest) {
    open_for_guest(host_port, header);
  } else if (op != VsockOp::kReset) {
    owe_reset(host_port, guest_port, kVsockStream);
  }
}

void Vsock::on_connection_packet(Connection& connection, const VsockHeader& header,
                                 vmm::RangeReader& payload) {
  const bool had_credit = connection.credit() > 0;
  connection.peer_buf_alloc = header.buf_alloc.get();
  connection.peer_fwd_cnt = header.fwd_cnt.get();
  const bool open = connection.stage == Stage::kOpen;
  if (open && !had_credit && connection.credit() > 0) enqueue(connection);
  switch (static_cast<VsockOp>(header.op.get())) {
    case VsockOp::kResponse: {
      if (connection.stage != Stage::kRequested || connection.owes_request) break;
      const std::string ok = "OK " + std::to_string(connection.host_port) + "\n";
      // The first bytes into a fresh socket: they fit, or the client is gone.
      if (::send(connection.fd.get(), ok.data(), ok.size(), MSG_NOSIGNAL | MSG_DONTWAIT) !=
          static_cast<ssize_t>(ok.size())) {
        return close(connection, Tell::kGuest);
      }
      connection.stage = Stage::kOpen;
      counters_.opened.fetch_add(1, std::memory_order_relaxed);
      enqueue(connection);
      update_watch(connection);
      return;
    }
    case VsockOp::kReset:
      return close(connection, Tell::kNobody);
    case VsockOp::kShutdown:
      if (!open) break;
      return on_guest_shutdown(connection, header.flags.get());
    case VsockOp::kData:
      if (!open) break;
      return on_data(connection, header.length.get(), payload);
    case VsockOp::kCreditRequest:
      if (!open) break;
      connection.owes_credit = true;
      enqueue(connection);
      return;
    case VsockOp::kCreditUpdate:
      if (!open) break;
      return;
    case VsockOp::kRequest:
      break;
    default:
      break;
  }
  close(connection, Tell::kGuest);
}

void Vsock::on_data(Connection& connection, std::uint32_t length, vmm::RangeReader& payload) {
  // 5.10.6.3.1: more than the credit is a violation; so is a length that the buffer does not hold.
  if (length > payload.remaining() || length > connection.room(options_.window) ||
      (connection.guest_shutdown & kVsockShutSend) != 0) {
    return close(connection, Tell::kGuest);
  }
  ranges_.clear();
  MSB_CHECK(payload.take(length, ranges_));
  connection.received += length;
  counters_.from_guest_bytes.fetch_add(length, std::memory_order_relaxed);
  take_from_guest(connection, ranges_, length);
}

void Vsock::on_guest_shutdown(Connection& connection, std::uint32_t flags) {
  connection.guest_shutdown |= flags & kVsockShutBoth;
  after_guest_shutdown(connection);
}

// ---- to the guest

void Vsock::process_receive(DriverSession& session) {
  if (session.queue(kReceive) == nullptr || !may_send()) return;
  bool served = send_strays(session);
  int turns = 0;
  while (served && !ready_.empty()) {
    if (++turns > kPumpsPerCall) {
      session.kick_again(kReceive);
      break;
    }
    const std::uint64_t id = ready_.front();
    ready_.pop_front();
    Connection* connection = find(id);
    if (connection == nullptr) continue;
    connection->queued = false;
    switch (pump(session, *connection, kBytesPerTurn)) {
      case Pumped::kStarved:
        connection->queued = true;
        ready_.push_front(id);
        served = false;
        break;
      case Pumped::kMore:
        enqueue(*connection);
        break;
      case Pumped::kIdle:
        break;
    }
    if ((connection = find(id)) != nullptr) update_watch(*connection);
  }
  if (!session.failed()) session.signal_used(kReceive);
}

// Sends what `connection` owes and has, up to `budget` bytes.
Vsock::Pumped Vsock::pump(DriverSession& session, Connection& connection, std::uint64_t budget) {
  if (connection.stage == Stage::kLingering || connection.stage == Stage::kHandshake ||
      connection.stage == Stage::kConnecting) {
    return Pumped::kIdle;
  }
  const bool opening = connection.owes_request || connection.owes_response;
  if (opening && send_control(session, connection) == Pumped::kStarved) return Pumped::kStarved;
  while (connection.may_read_host() && connection.credit() > 0) {  // each round uses up budget, or leaves
    if (budget == 0) return Pumped::kMore;
    const Pumped result = send_data(session, connection, budget);
    if (result == Pumped::kStarved) return result;
    if (result == Pumped::kIdle) break;
  }
  // After the data: packets with data carry the credit, and SHUTDOWN comes last.
  return send_control(session, connection);
}

// Takes the next receive buffer; false when there is none (a kick will come) or the queue is broken.
bool Vsock::pop_receive(DriverSession& session, Chain& chain) {
  Queue* queue = session.queue(kReceive);
  for (int attempt = 0; attempt < 2; ++attempt) {
    switch (queue->pop(chain)) {
      case Queue::Pop::kChain:
        if (chain.writable_bytes > kHeaderBytes) return true;
        session.fail("vsock receive buffer is too small");
        return false;
      case Queue::Pop::kBroken:
        session.fail(queue->broken_reason());
        return false;
      case Queue::Pop::kEmpty:
        if (!queue->enable_kicks()) return false;
        break;
    }
  }
  session.kick_again(kReceive);  // it moves under our eyes: look again next round
  return false;
}

void Vsock::write_packet(DriverSession& session, const Chain& chain, const Connection& connection, VsockOp op,
                         std::uint32_t length, std::uint32_t flags) {
  const VsockHeader header{
      .source_cid = Le64(kVsockHostCid),
      .destination_cid = Le64(options_.guest_cid),
      .source_port = Le32(connection.host_port),
      .destination_port = Le32(connection.guest_port),
      .length = Le32(length),
      .type = Le16(kVsockStream),
      .op = Le16(static_cast<std::uint16_t>(op)),
      .flags = Le32(flags),
      .buf_alloc = Le32(options_.window),
      .fwd_cnt = Le32(connection.forwarded),
  };
  vmm::RangeWriter writer = chain.writer();
  MSB_CHECK(writer.write(header));
  session.queue(kReceive)->push_used(chain.head, kHeaderBytes + length);
}

Vsock::Pumped Vsock::send_control(DriverSession& session, Connection& connection) {
  Chain& chain = chains_[0];
  while (connection.owes_control()) {  // at most one round per kind of packet
    if (!pop_receive(session, chain)) return Pumped::kStarved;
    if (connection.owes_request) {
      write_packet(session, chain, connection, VsockOp::kRequest, 0, 0);
      connection.owes_request = false;
    } else if (connection.owes_response) {
      write_packet(session, chain, connection, VsockOp::kResponse, 0, 0);
      connection.owes_response = false;
    } else if ((connection.shutdown_wanted & ~connection.shutdown_sent) != 0) {
      write_packet(session, chain, connection, VsockOp::kShutdown, 0, connection.shutdown_wanted);
      connection.shutdown_sent = connection.shutdown_wanted;
      if (connection.shutdown_sent == kVsockShutBoth) arm_close_timer(connection);
    } else {
      write_packet(session, chain, connection, VsockOp::kCreditUpdate, 0, 0);
    }
    // Every packet carries the count.
    connection.owes_credit = false;
    connection.advertised = connection.forwarded;
  }
  return Pumped::kIdle;
}

// One read of the host socket into as many receive buffers as lately were worth taking.
Vsock::Pumped Vsock::send_data(DriverSession& session, Connection& connection, std::uint64_t& budget) {
  Queue& queue = *session.queue(kReceive);
  std::uint64_t room = std::min<std::uint64_t>(connection.credit(), budget);
  std::array<std::uint32_t, std::tuple_size_v<decltype(chains_)>> capacity;
  std::uint16_t taken = 0;
  std::uint32_t asked = 0;
  ranges_.clear();
  while (room > 0 && taken < connection.batch && ranges_.size() < kMaxRanges) {
    Chain& chain = chains_[taken];
    if (!pop_receive(session, chain)) break;
    vmm::RangeWriter writer = chain.writer();
    capacity[taken] = static_cast<std::uint32_t>(
        std::min<std::uint64_t>({room, chain.writable_bytes - kHeaderBytes, kVsockMaxPayload}));
    MSB_CHECK(writer.skip(kHeaderBytes) && writer.take(capacity[taken], ranges_));
    room -= capacity[taken];
    asked += capacity[taken];
    ++taken;
  }
  if (session.failed() || taken == 0) return Pumped::kStarved;

  msghdr message{};
  message.msg_iov = ranges_.data();
  message.msg_iovlen = ranges_.size();
  const ssize_t got = ::recvmsg(connection.fd.get(), &message, MSG_DONTWAIT);
  if (got <= 0) {
    queue.undo_pop(taken);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return Pumped::kIdle;
    if (got == 0) {
      connection.shutdown_wanted |= kVsockShutSend;
    } else {
      on_host_closed(connection);
    }
    return Pumped::kIdle;
  }
  auto left = static_cast<std::uint32_t>(got);
  const std::uint32_t total = left;
  std::uint16_t filled = 0;
  while (left > 0) {  // recvmsg wrote no more than the sum of capacities
    const std::uint32_t length = std::min(left, capacity[filled]);
    write_packet(session, chains_[filled], connection, VsockOp::kData, length, 0);
    left -= length;
    ++filled;
  }
  queue.undo_pop(static_cast<std::uint16_t>(taken - filled));
  connection.sent += total;
  connection.advertised = connection.forwarded;
  connection.owes_credit = false;
  counters_.to_guest_bytes.fetch_add(total, std::memory_order_relaxed);
  budget -= std::min<std::uint64_t>(budget, total);
  connection.batch =
      static_cast<std::uint16_t>(filled == taken ? std::min<std::size_t>(taken * 2u, chains_.size())
                                                 : std::max<std::uint16_t>(filled, 1));
  // A short read emptied the socket; the loop tells when there is more.
  return total == asked ? Pumped::kMore : Pumped::kIdle;
}

// False when receive buffers ran out first.
bool Vsock::send_strays(DriverSession& session) {
  Chain& chain = chains_[0];
  while (!strays_.empty()) {  // bounded by kMaxStrays and one per connection
    if (!pop_receive(session, chain)) return false;
    const StrayReset stray = strays_.front();
    strays_.pop_front();
    const VsockHeader header{
        .source_cid = Le64(kVsockHostCid),
        .destination_cid = Le64(options_.guest_cid),
        .source_port = Le32(stray.host_port),
        .destination_port = Le32(stray.guest_port),
        .length = Le32(0),
        .type = Le16(stray.type),
        .op = Le16(static_cast<std::uint16_t>(VsockOp::kReset)),
        .flags = Le32(0),
        .buf_alloc = Le32(0),
        .fwd_cnt = Le32(0),
    };
    vmm::RangeWriter writer = chain.writer();
    MSB_CHECK(writer.write(header));
    session.queue(kReceive)->push_used(chain.head, kHeaderBytes);
  }
  if (transmit_stalled_) {
    transmit_stalled_ = false;
    session.kick_again(kTransmit);
  }
  return true;
}

void Vsock::owe_reset(std::uint32_t host_port, std::uint32_t guest_port, std::uint16_t type) {
  counters_.resets.fetch_add(1, std::memory_order_relaxed);
  strays_.push_back({host_port, guest_port, type});
}

// ---- the table

Vsock::Connection* Vsock::find(std::uint64_t id) {
  const auto it = connections_.find(id);
  return it != connections_.end() ? it->second.get() : nullptr;
}

Vsock::Connection* Vsock::find(std::uint32_t host_port, std::uint32_t guest_port) {
  const auto it = by_ports_.find(port_key(host_port, guest_port));
  return it != by_ports_.end() ? find(it->second) : nullptr;
}

Vsock::Connection& Vsock::create(Stage stage) {
  auto owned = std::make_unique<Connection>();
  Connection& connection = *owned;
  connection.id = next_id_++;
  connection.stage = stage;
  connections_.emplace(connection.id, std::move(owned));
  counters_.connections.store(connections_.size(), std::memory_order_relaxed);
  return connection;
}

void Vsock::bind_ports(Connection& connection, std::uint32_t host_port, std::uint32_t guest_port) {
  connection.host_port = host_port;
  connection.guest_port = guest_port;
  by_ports_[port_key(host_port, guest_port)] = connection.id;
}

std::optional<std::uint32_t> Vsock::free_host_port(std::uint32_t guest_port) {
  // More candidates than connections: one is free.
  for (std::size_t i = 0; i <= options_.max_connections; ++i) {
    const std::uint32_t port = next_host_port_;
    // The top bit stays clear: the last port number means "any" to guests.
    next_host_port_ = port + 1 < (std::uint32_t{1} << 31) ? port + 1 : kFirstHostPort;
    if (!by_ports_.contains(port_key(port, guest_port))) return port;
  }
  return std::nullopt;
}

void Vsock::enqueue(Connection& connection) {
  if (connection.queued) return;
  connection.queued = true;
  ready_.push_back(connection.id);
}

void Vsock::kick_receive() {
  if (session_ != nullptr && !ready_.empty()) session_->kick_again(kReceive);
}

void Vsock::close(Connection& connection, Tell tell) {
  if (connection.stage != Stage::kHandshake && connection.stage != Stage::kLingering) {
    by_ports_.erase(port_key(connection.host_port, connection.guest_port));
    // A guest that has not yet seen the REQUEST need not see its end.
    const bool known = !(connection.stage == Stage::kRequested && connection.owes_request);
    if (tell == Tell::kGuest && known) owe_reset(connection.host_port, connection.guest_port, kVsockStream);
  }
  const bool bytes_left = connection.backlog_bytes() > 0 && connection.fd.valid() &&
                          (connection.shutdown_wanted & kVsockShutReceive) == 0;
  if (bytes_left) {
    connection.stage = Stage::kLingering;
    update_watch(connection);
    return;
  }
  destroy(connection);
}

void Vsock::destroy(Connection& connection) {
  if (connection.queued) std::erase(ready_, connection.id);
  if (connection.stage == Stage::kHandshake) std::erase(handshakes_, connection.id);
  if (connection.stage != Stage::kHandshake && connection.stage != Stage::kLingering) {
    const auto it = by_ports_.find(port_key(connection.host_port, connection.guest_port));
    if (it != by_ports_.end() && it->second == connection.id) by_ports_.erase(it);
  }
  loop_.cancel_timer(connection.close_timer);
  loop_.remove(connection.token);
  connections_.erase(connection.id);
  counters_.connections.store(connections_.size(), std::memory_order_relaxed);
}

}  // namespace msb::devices
