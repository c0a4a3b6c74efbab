// SPDX-License-Identifier: Apache-2.0
// Vsock: a virtio socket device (virtio 1.2, section 5.10) whose host side is Unix sockets.
//
// Theory of operation. Host to guest: a client connects to the listening socket and sends "CONNECT <port>\n";
// the guest gets a REQUEST from a fresh host port; when it accepts, the client reads "OK <host port>\n" and
// from then on the stream. Guest to host: a REQUEST to CID 2 is given to the HostConnector, which decides.
//
// Flow control is end to end and per connection. Bytes from the guest go straight from its buffers into the
// host socket; what the socket does not take is kept, at most `window` bytes, which is exactly what the guest
// was told it may send; credit returns as the host drains. Bytes to the guest are read from the host socket
// directly into the guest's receive buffers, never more than its credit; so they stay in the host socket
// until the guest has room. A connection without credit or whose client does not read stands still alone.
//
// The receive queue is shared. Whoever finds it empty joins the ready list, served in turn when the guest
// adds buffers. Answers to packets of unknown connections wait in a bounded list; while it is full, the
// transmit queue is not read: a guest that sends without receiving stalls itself.
//
// Closing. End of file on the host socket becomes SHUTDOWN(send), a closed one SHUTDOWN(both); the guest's
// SHUTDOWN becomes shutdown(2) after the kept bytes are out. When both sides are done, RST ends it. If the
// guest forgets a connection with bytes still kept for a slow client, they linger until the client has read
// them. After a restore the guest is told to reset its connections before any packet is sent.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <unordered_map>
#include <vector>

#include "devices/virtio/device.h"
#include "devices/virtio/vsock_connection.h"

namespace msb::devices {

// Who decides on connections that the guest starts.
class HostConnector {
 public:
  virtual ~HostConnector() = default;
  // A connected stream socket, or an error that becomes RST. Exactly once, on the device's loop, during
  // connect() or later; it may outlive the device.
  using Done = std::function<void(Result<UniqueFd>)>;
  // On the device's loop. `port` is what the guest asked for on CID 2.
  virtual void connect(std::uint32_t port, Done done) = 0;
};

class Vsock final : public Device {
 public:
  struct Options {
    std::uint32_t guest_cid = 3;
    std::uint32_t window = 256 * 1024;   // bytes a guest may send ahead, per connection
    std::size_t max_connections = 2048;  // in any stage
    std::size_t max_handshakes = 128;    // clients that have not finished their CONNECT line; oldest goes
    Duration close_timeout = std::chrono::seconds(10);
  };
  struct Counters {
    std::atomic<std::uint64_t> opened{0}, refused{0}, resets{0}, dropped{0};
    std::atomic<std::uint64_t> to_guest_bytes{0}, from_guest_bytes{0};
    std::atomic<std::uint64_t> connections{0};  // now
  };

  // `loop` is borrowed. `listener`: a listening Unix stream socket, owned; may be invalid (no host clients).
  // `connector` is borrowed; null refuses all guest connections.
  Vsock(EventLoop& loop, UniqueFd listener, HostConnector* connector, Options options);
  ~Vsock() override;

  DeviceType type() const override { return DeviceType::kVsock; }
  std::uint64_t features() const override { return 0; }
  std::span<const std::uint16_t> queue_sizes() const override { return kQueueSizes; }
  EventLoop& loop() override { return loop_; }
  void activate(std::shared_ptr<DriverSession> session) override;
  void reset() override;
  void process(DriverSession& session, std::uint16_t queue) override;
  void pause() override;
  void resume() override;
  Bytes save() const override;
  Status restore(ByteView state) override;

  // Any thread.
  [[nodiscard]] const Counters& counters() const { return counters_; }

 private:
  using Connection = VsockConnection;
  using Stage = Connection::Stage;
  static constexpr std::array<std::uint16_t, 3> kQueueSizes{256, 256, 16};
  enum QueueIndex : std::uint16_t { kReceive = 0, kTransmit = 1, kEvent = 2 };
  enum class Pumped : std::uint8_t { kIdle, kStarved, kMore };
  struct StrayReset {
    std::uint32_t host_port;
    std::uint32_t guest_port;
    std::uint16_t type;
  };

  // Guest side: vsock.cc. Under a lease.
  void process_transmit(DriverSession& session);
  void process_receive(DriverSession& session);
  void process_event(DriverSession& session);
  void on_packet(DriverSession& session, const VsockHeader& header, vmm::RangeReader& payload);
  void on_connection_packet(Connection& connection, const VsockHeader& header, vmm::RangeReader& payload);
  void on_data(Connection& connection, std::uint32_t length, vmm::RangeReader& payload);
  void on_guest_shutdown(Connection& connection, std::uint32_t flags);
  [[nodiscard]] Pumped pump(DriverSession& session, Connection& connection, std::uint64_t budget);
  [[nodiscard]] Pumped send_control(DriverSession& session, Connection& connection);
  [[nodiscard]] Pumped send_data(DriverSession& session, Connection& connection, std::uint64_t& budget);
  [[nodiscard]] bool send_strays(DriverSession& session);
  [[nodiscard]] bool pop_receive(DriverSession& session, Chain& chain);
  void write_packet(DriverSession& session, const Chain& chain, const Connection& connection, VsockOp op,
                    std::uint32_t length, std::uint32_t flags);
  [[nodiscard]] bool may_send() const { return !owes_transport_reset_; }

  // Host side: vsock_host.cc.
  void watch_listener();
  void unwatch_listener();
  void accept_clients();
  void read_handshake(Connection& connection);
  void start_request(Connection& connection, std::uint32_t guest_port);
  void open_for_guest(std::uint32_t host_port, const VsockHeader& header);
  void on_connected(std::uint64_t id, Result<UniqueFd> socket);
  void on_host_event(std::uint64_t id, std::uint32_t events);
  void on_host_closed(Connection& connection);
  void flush_backlog(Connection& connection);
  void take_from_guest(Connection& connection, std::span<const vmm::HostRange> data, std::uint32_t length);
  void count_forwarded(Connection& connection, std::uint32_t bytes);
  void after_guest_shutdown(Connection& connection);
  void update_watch(Connection& connection);
  void arm_close_timer(Connection& connection);
  [[nodiscard]] std::optional<std::uint32_t> wanted_events(const Connection& connection) const;

  // The table.
  [[nodiscard]] Connection* find(std::uint64_t id);
  [[nodiscard]] Connection* find(std::uint32_t host_port, std::uint32_t guest_port);
  [[nodiscard]] Connection& create(Stage stage);
  void bind_ports(Connection& connection, std::uint32_t host_port, std::uint32_t guest_port);
  [[nodiscard]] std::optional<std::uint32_t> free_host_port(std::uint32_t guest_port);
  void enqueue(Connection& connection);
  void kick_receive();
  // Ends it: RST to the guest unless it knows; kept bytes linger. `connection` may be gone afterwards.
  enum class Tell : std::uint8_t { kGuest, kNobody };
  void close(Connection& connection, Tell tell);
  void destroy(Connection& connection);
  void owe_reset(std::uint32_t host_port, std::uint32_t guest_port, std::uint16_t type);

  EventLoop& loop_;
  UniqueFd listener_;
  HostConnector* connector_;
  const Options options_;
  Counters counters_;

  std::shared_ptr<DriverSession> session_;
  bool paused_ = false;
  bool owes_transport_reset_ = false;
  bool transmit_stalled_ = false;
  EventLoop::IoToken listener_token_;
  EventLoop::TimerToken listener_timer_ = 0;

  std::unordered_map<std::uint64_t, std::unique_ptr<Connection>> connections_;  // by id; ids are never reused
  std::unordered_map<std::uint64_t, std::uint64_t> by_ports_;  // host port << 32 | guest port
  std::deque<std::uint64_t> ready_;       // ids with something for the guest, waiting for receive buffers
  std::deque<std::uint64_t> handshakes_;  // ids in that stage, oldest first
  std::deque<StrayReset> strays_;
  std::uint64_t next_id_ = 1;
  std::uint32_t next_host_port_;

  std::array<Chain, 16> chains_;
  std::vector<vmm::HostRange> ranges_;
  Chain transmit_chain_;
  std::shared_ptr<bool> alive_;  // shared with callbacks of the connector, which may come after our end
};

}  // namespace msb::devices
