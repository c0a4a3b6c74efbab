// SPDX-License-Identifier: Apache-2.0
// The host side of Vsock: clients, their handshake, and the sockets of open connections.
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>

#include "devices/virtio/vsock.h"

namespace msb::devices {
namespace {
constexpr int kAcceptsPerCall = 32;
constexpr std::size_t kMaxLine = 32;  // "CONNECT 4294967295\n" has 19
constexpr std::uint64_t kBytesPerEvent = 256 * 1024;
constexpr auto kAcceptPause = std::chrono::milliseconds(100);

std::optional<std::uint32_t> parse_connect(std::string_view line) {
  constexpr std::string_view kVerb = "CONNECT ";
  if (!line.starts_with(kVerb)) return std::nullopt;
  line.remove_prefix(kVerb.size());
  std::uint32_t port = 0;
  const auto [end, error] = std::from_chars(line.data(), line.data() + line.size(), port);
  if (error != std::errc() || end != line.data() + line.size()) return std::nullopt;
  return port;
}
}  // namespace

void Vsock::watch_listener() {
  if (!listener_ || listener_token_.valid() || paused_ || !may_send() || session_ == nullptr) return;
  auto token = loop_.add(listener_.get(), EPOLLIN, [this](std::uint32_t) { accept_clients(); });
  if (token.ok()) listener_token_ = *token;
}

void Vsock::unwatch_listener() {
  loop_.cancel_timer(listener_timer_);
  loop_.remove(listener_token_);
  listener_token_ = {};
}

void Vsock::accept_clients() {
  for (int i = 0; i < kAcceptsPerCall; ++i) {
    UniqueFd client(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!client) {
      if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
        // The listener stays readable; look again when something may have been freed.
        unwatch_listener();
        listener_timer_ = loop_.add_timer_after(kAcceptPause, [this] { watch_listener(); });
      }
      return;
    }
    if (handshakes_.size() >= options_.max_handshakes) {
      if (Connection* oldest = find(handshakes_.front())) destroy(*oldest);
    }
    if (connections_.size() >= options_.max_connections) {
      counters_.refused.fetch_add(1, std::memory_order_relaxed);
      continue;
    }
    Connection& connection = create(Stage::kHandshake);
    connection.fd = std::move(client);
    handshakes_.push_back(connection.id);
    update_watch(connection);
  }
}

// Takes bytes up to the newline and not one more: what follows belongs to the stream.
void Vsock::read_handshake(Connection& connection) {
  std::array<char, kMaxLine> peeked;
  const std::size_t wanted = kMaxLine - connection.line.size();
  const ssize_t got = ::recv(connection.fd.get(), peeked.data(), wanted, MSG_PEEK | MSG_DONTWAIT);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (got <= 0) return destroy(connection);
  const auto* const begin = peeked.data();
  const auto* const end = begin + got;
  const auto* const newline = std::find(begin, end, '\n');
  const auto taken = static_cast<std::size_t>(newline == end ? got : newline - begin + 1);
  if (::recv(connection.fd.get(), peeked.data(), taken, MSG_DONTWAIT) != static_cast<ssize_t>(taken)) {
    return destroy(connection);
  }
  connection.line.append(peeked.data(), taken);
  if (newline == end) {
    if (connection.line.size() >= kMaxLine) destroy(connection);
    return;
  }
  connection.line.pop_back();
  const auto port = parse_connect(connection.line);
  if (!port) return destroy(connection);
  start_request(connection, *port);
}

void Vsock::start_request(Connection& connection, std::uint32_t guest_port) {
  const auto host_port = free_host_port(guest_port);
  if (!host_port) return destroy(connection);
  std::erase(handshakes_, connection.id);
  connection.line = {};
  connection.stage = Stage::kRequested;
  connection.owes_request = true;
  bind_ports(connection, *host_port, guest_port);
  enqueue(connection);
  update_watch(connection);
}

void Vsock::open_for_guest(std::uint32_t host_port, const VsockHeader& header) {
  const std::uint32_t guest_port = header.source_port.get();
  if (connector_ == nullptr || connections_.size() >= options_.max_connections) {
    counters_.refused.fetch_add(1, std::memory_order_relaxed);
    return owe_reset(host_port, guest_port, kVsockStream);
  }
  Connection& connection = create(Stage::kConnecting);
  connection.peer_buf_alloc = header.buf_alloc.get();
  connection.peer_fwd_cnt = header.fwd_cnt.get();
  bind_ports(connection, host_port, guest_port);
  connector_->connect(host_port, [this, alive = alive_, id = connection.id](Result<UniqueFd> socket) {
    if (*alive) on_connected(id, std::move(socket));
  });
}

void Vsock::on_connected(std::uint64_t id, Result<UniqueFd> socket) {
  Connection* connection = find(id);
  if (connection == nullptr || connection->stage != Stage::kConnecting) return;
  if (!socket.ok()) {
    counters_.refused.fetch_add(1, std::memory_order_relaxed);
    close(*connection, Tell::kGuest);
    if (session_ != nullptr) session_->kick_again(kReceive);
    return;
  }
  connection->fd = std::move(socket).value();
  connection->stage = Stage::kOpen;
  connection->owes_response = true;
  counters_.opened.fetch_add(1, std::memory_order_relaxed);
  enqueue(*connection);
  update_watch(*connection);
  // No lease is held for sure here, nor known not to be: leave the queues to the next round.
  kick_receive();
}

void Vsock::on_host_event(std::uint64_t id, std::uint32_t events) {
  const std::shared_ptr<DriverSession> session = session_;
  if (session == nullptr) return;
  const auto lease = session->enter();
  if (!lease) return;
  Connection* connection = find(id);
  if (connection == nullptr) return;
  const bool ended = (events & (EPOLLHUP | EPOLLERR)) != 0;
  switch (connection->stage) {
    case Stage::kHandshake:
      read_handshake(*connection);
      break;
    case Stage::kConnecting:
      break;
    case Stage::kRequested:
      if (ended) close(*connection, Tell::kGuest);
      break;
    case Stage::kLingering:
      flush_backlog(*connection);
      break;
    case Stage::kOpen:
      if ((events & EPOLLOUT) != 0) flush_backlog(*connection);
      if ((connection = find(id)) == nullptr) break;
      // The host reads no more; what it wrote before is still to be delivered.
      if (ended) connection->shutdown_wanted |= kVsockShutReceive;
      if (ended || (events & EPOLLIN) != 0) enqueue(*connection);
      break;
  }
  // Alone in the line it is served at once; else it takes its turn.
  if (ready_.size() == 1 && strays_.empty() && ready_.front() == id && may_send() && !session->failed()) {
    connection = find(id);
    ready_.pop_front();
    connection->queued = false;
    if (pump(*session, *connection, kBytesPerEvent) == Pumped::kStarved) enqueue(*connection);
    session->signal_used(kReceive);
  } else if (!ready_.empty() || !strays_.empty()) {
    process_receive(*session);
  }
  if ((connection = find(id)) != nullptr) update_watch(*connection);
}

// The host's end is gone for good: nothing can be delivered, nothing will come. Never destroys.
void Vsock::on_host_closed(Connection& connection) {
  connection.shutdown_wanted = kVsockShutBoth;
  count_forwarded(connection, static_cast<std::uint32_t>(connection.backlog_bytes()));
  connection.backlog = {};
  connection.backlog_start = 0;
}

void Vsock::take_from_guest(Connection& connection, std::span<const vmm::HostRange> data,
                            std::uint32_t length) {
  std::uint32_t taken = 0;
  const bool host_reads = connection.fd.valid() && (connection.shutdown_wanted & kVsockShutReceive) == 0;
  if (!host_reads) return count_forwarded(connection, length);
  if (connection.backlog_bytes() == 0 && length > 0) {
    msghdr message{};
    message.msg_iov = const_cast<iovec*>(data.data());
    message.msg_iovlen = data.size();
    const ssize_t sent = ::sendmsg(connection.fd.get(), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && errno != EAGAIN && errno != EINTR) {
      connection.shutdown_wanted |= kVsockShutReceive;
      enqueue(connection);
      return count_forwarded(connection, length);
    }
    taken = sent > 0 ? static_cast<std::uint32_t>(sent) : 0;
    count_forwarded(connection, taken);
  }
  if (taken == length) return;
  // Within the window: the caller checked.
  vmm::RangeReader rest(data);
  const std::size_t old_size = connection.backlog.size();
  connection.backlog.resize(old_size + length - taken);
  if (!rest.skip(taken) || !rest.read(MutableBytes(connection.backlog).subspan(old_size))) {
    connection.backlog.resize(old_size);
  }
  update_watch(connection);
}

// May end the connection.
void Vsock::flush_backlog(Connection& connection) {
  while (connection.backlog_bytes() > 0) {  // each round shrinks it or leaves
    const ssize_t sent = ::send(connection.fd.get(), connection.backlog.data() + connection.backlog_start,
                                connection.backlog_bytes(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0) {
      if (errno == EINTR) continue;
      if (errno == EAGAIN) return;
      if (connection.stage == Stage::kLingering) return destroy(connection);
      count_forwarded(connection, static_cast<std::uint32_t>(connection.backlog_bytes()));
      connection.shutdown_wanted |= kVsockShutReceive;
      enqueue(connection);
      break;
    }
    connection.backlog_start += static_cast<std::size_t>(sent);
    count_forwarded(connection, static_cast<std::uint32_t>(sent));
    // Appending goes on at the end; do not let the front grow without bound.
    if (connection.backlog_start >= options_.window) {
      connection.backlog.erase(
          connection.backlog.begin(),
          connection.backlog.begin() + static_cast<std::ptrdiff_t>(connection.backlog_start));
      connection.backlog_start = 0;
    }
  }
  connection.backlog = {};
  connection.backlog_start = 0;
  if (connection.stage == Stage::kLingering) return destroy(connection);
  after_guest_shutdown(connection);
}

void Vsock::count_forwarded(Connection& connection, std::uint32_t bytes) {
  connection.forwarded += bytes;
  if (connection.stage != Stage::kOpen) return;
  // Often enough that a sender with a full window never waits for long, rarely enough to cost little.
  if (connection.forwarded - connection.advertised >= options_.window / 4) {
    connection.owes_credit = true;
    enqueue(connection);
  }
}

// May end the connection.
void Vsock::after_guest_shutdown(Connection& connection) {
  if ((connection.guest_shutdown & kVsockShutReceive) != 0 && connection.fd) {
    ::shutdown(connection.fd.get(), SHUT_RD);
  }
  if (connection.backlog_bytes() == 0) {
    if ((connection.guest_shutdown & kVsockShutSend) != 0 && !connection.host_shut_write && connection.fd) {
      ::shutdown(connection.fd.get(), SHUT_WR);
      connection.host_shut_write = true;
    }
    if (connection.guest_shutdown == kVsockShutBoth) return close(connection, Tell::kGuest);
  }
  update_watch(connection);
}

void Vsock::arm_close_timer(Connection& connection) {
  loop_.cancel_timer(connection.close_timer);
  connection.close_timer = loop_.add_timer_after(options_.close_timeout, [this, id = connection.id] {
    if (Connection* late = find(id)) {
      late->close_timer = 0;
      close(*late, Tell::kGuest);
      if (session_ != nullptr) session_->kick_again(kReceive);
    }
  });
}

// nullopt: no registration at all. 0: only errors and hang-ups, which are always reported; so a socket that
// has hung up and whose events cannot be acted upon must not be registered.
std::optional<std::uint32_t> Vsock::wanted_events(const Connection& connection) const {
  if (paused_ || !connection.fd) return std::nullopt;
  switch (connection.stage) {
    case Stage::kHandshake:
      return EPOLLIN;
    case Stage::kRequested:
      return 0;
    case Stage::kConnecting:
      return std::nullopt;
    case Stage::kLingering:
      return EPOLLOUT;
    case Stage::kOpen:
      break;
  }
  std::uint32_t events = 0;
  if (connection.backlog_bytes() > 0) events |= EPOLLOUT;
  if (connection.may_read_host() && !connection.queued && connection.credit() > 0) events |= EPOLLIN;
  if (events == 0 && (connection.shutdown_wanted & kVsockShutReceive) != 0) return std::nullopt;
  return events;
}

void Vsock::update_watch(Connection& connection) {
  if (connection.shutdown_wanted == kVsockShutBoth && connection.stage == Stage::kOpen) {
    loop_.remove(connection.token);
    connection.token = {};
    connection.fd.reset();
    return;
  }
  const auto wanted = wanted_events(connection);
  if (!wanted) {
    loop_.remove(connection.token);
    connection.token = {};
    return;
  }
  if (!connection.token.valid()) {
    auto token = loop_.add(connection.fd.get(), *wanted,
                           [this, id = connection.id](std::uint32_t events) { on_host_event(id, events); });
    if (!token.ok()) return;  // out of memory for epoll: the connection stands still until the next change
    connection.token = *token;
  } else if (connection.watched != *wanted) {
    static_cast<void>(loop_.modify(connection.token, *wanted));
  }
  connection.watched = *wanted;
}

}  // namespace msb::devices
