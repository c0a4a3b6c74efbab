// SPDX-License-Identifier: Apache-2.0
// Published ports: host listeners that lead into the guest. Added and removed while the sandbox runs; a port
// that cannot be bound is an error of the call that asked for it.
#pragma once

#include <memory>
#include <vector>

#include "base/event_loop.h"
#include "net/tcp_service.h"
#include "net/udp_relay.h"
#include "proto/net_spec.h"

namespace msb::net {

class PortPublisher {
 public:
  struct Published {
    IpAddress bind;
    std::uint16_t host = 0;  // the real one where the system chose
    std::uint16_t guest = 0;
    proto::NetProtocol protocol = proto::NetProtocol::kTcp;
  };
  PortPublisher(EventLoop& loop, TcpService& tcp, UdpRelay& udp) : loop_(loop), tcp_(tcp), udp_(udp) {}
  ~PortPublisher();
  PortPublisher(const PortPublisher&) = delete;
  PortPublisher& operator=(const PortPublisher&) = delete;

  // All ports of the range, or none and an error that names the one that failed.
  [[nodiscard]] Result<std::vector<Published>> add(const proto::NetPortSpec& port);
  // Stops listening; connections that stand are left alone. kNotFound if nothing matches.
  [[nodiscard]] Status remove(const proto::NetPortSpec& port);
  [[nodiscard]] std::vector<Published> list() const;

 private:
  struct Listener {
    Published published;
    UniqueFd socket;
    EventLoop::IoToken token;
  };
  [[nodiscard]] Result<std::unique_ptr<Listener>> open(const Published& wanted);
  void on_accept(Listener& listener);
  void on_datagrams(Listener& listener);
  void close(Listener& listener);
  EventLoop& loop_;
  TcpService& tcp_;
  UdpRelay& udp_;
  std::vector<std::unique_ptr<Listener>> listeners_;
};

}  // namespace msb::net
