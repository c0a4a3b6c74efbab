// SPDX-License-Identifier: Apache-2.0
// One TCP flow of TcpService: the guest's Connection, the host socket, and what is inspected in between.
#pragma once

#include <optional>

#include "net/tcp/connection.h"
#include "net/tcp_service.h"
#include "net/wire/sniff.h"

namespace msb::net {

class TcpFlow final : public ConnectionIo {
 public:
  // How the host side comes about.
  enum class Kind : std::uint8_t { kOutbound, kInbound, kDns };
  TcpFlow(TcpService& service, const TcpService::Key& key, Kind kind, FlowRecord record,
          const TcpSegment& syn, std::uint32_t initial);
  TcpFlow(TcpService& service, const TcpService::Key& key, UniqueFd client, FlowRecord record,
          std::uint32_t initial);
  ~TcpFlow() override;

  // Starts dialling `target`, through the upstream proxy if there is one and the target is not this host.
  void dial(const IpAddress& target, std::uint16_t port);
  void start_dns();
  void start_inbound();
  void on_segment(const TcpSegment& segment);
  void on_timer();
  void on_link_writable();
  void end_batch() {
    connection_.end_batch(*this);
    settle();
  }
  void rejudge();
  void kill(const char* how);

  [[nodiscard]] const TcpService::Key& key() const { return key_; }
  [[nodiscard]] const FlowRecord& record() const { return record_; }
  [[nodiscard]] bool dead() const { return dead_; }
  [[nodiscard]] std::optional<Instant> deadline() const;
  // Registers what changed with the loop and the service; call after every event.
  void settle();

  bool in_acks = false;
  bool in_waiting = false;
  std::optional<Instant> scheduled;

  // ConnectionIo
  void send_segment(const TcpOutput& segment) override;
  [[nodiscard]] bool can_send() const override;
  [[nodiscard]] std::size_t deliver(ByteView bytes) override;
  void deliver_eof() override;
  void opened() override;
  void aborted() override;
  void finished() override;

 private:
  enum class Phase : std::uint8_t { kDialing, kProxy, kOpen, kClosed };
  [[nodiscard]] Connection::Config config() const;
  void on_socket(std::uint32_t events);
  void on_connected();
  void on_proxy(std::uint32_t events);
  void dial_failed(int error);
  void read_host(bool ended);
  void flush_held();
  void inspect();
  void conclude(const Sniff& sniff);
  void deny();
  void feed_dns();
  void close_socket(bool abortive);
  [[nodiscard]] std::size_t write_host(ByteView bytes);

  TcpService& service_;
  TcpService::Key key_;
  Kind kind_;
  FlowRecord record_;
  Connection connection_;
  std::uint32_t syn_sequence_ = 0;
  UniqueFd socket_;
  EventLoop::IoToken token_;
  std::uint32_t interest_ = 0;
  Phase phase_ = Phase::kDialing;
  bool dead_ = false;
  bool noted_ = false;
  bool sniffing_ = false;
  bool eof_waiting_ = false;
  bool shut_ = false;
  bool feeding_ = false;
  std::optional<Instant> starved_until_;
  const char* how_ = "closed";
  Instant dial_deadline_;
  std::optional<HttpGuard> guard_;
  std::unique_ptr<ProxyHandshake> handshake_;
  IpAddress target_;
  std::uint16_t target_port_ = 0;
  Bytes inspect_;                   // the guest's bytes not judged yet
  Bytes held_;                      // judged, waiting for the socket
  std::shared_ptr<TcpFlow*> self_;  // for replies that may outlive the flow; made for the first
  int dns_open_ = 0;
};

}  // namespace msb::net
