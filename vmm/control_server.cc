// SPDX-License-Identifier: Apache-2.0
#include "vmm/control_server.h"

#include <sys/socket.h>

#include <algorithm>

#include "proto/agent.h"

namespace msb::vmm {
namespace {
constexpr std::size_t kMaxClients = 64;
constexpr int kAcceptsPerWake = 8;
}  // namespace

using proto::ControlOp;
using proto::FrameType;

Result<std::unique_ptr<ControlServer>> ControlServer::open(EventLoop& loop, UniqueFd listener,
                                                           Handler& handler) {
  std::unique_ptr<ControlServer> server(new ControlServer(loop, std::move(listener), handler));
  ControlServer* const raw = server.get();
  MSB_ASSIGN(raw->token_,
             loop.add(raw->listener_.get(), EPOLLIN, [raw](std::uint32_t) { raw->accept_clients(); }));
  return server;
}

ControlServer::~ControlServer() {
  if (token_.valid()) loop_.remove(token_);
}

void ControlServer::accept_clients() {
  for (int n = 0; n < kAcceptsPerWake; ++n) {
    UniqueFd socket(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!socket) return;
    if (clients_.size() >= kMaxClients) continue;  // closed at once
    auto stream = FrameStream::open(loop_, std::move(socket), *this);
    if (!stream) continue;
    stream.value()->send(FrameType::kHello, proto::to_json(proto::Hello{.agent = "msb-vmm"}));
    clients_.push_back(std::make_unique<Client>());
    clients_.back()->id = next_id_++;
    clients_.back()->stream = std::move(stream).value();
  }
}

void ControlServer::on_frame(FrameStream& stream, const proto::Frame& frame) {
  if (frame.type() != FrameType::kRequest) return;  // HELLO: nothing depends on the client's version yet
  for (auto& client : clients_) {
    if (client->stream.get() != &stream) continue;
    on_request(*client, as_text(frame.payload));
    return;
  }
}

void ControlServer::refuse(Client& client, const Error& error) {
  client.stream->send(FrameType::kError,
                      proto::to_json(proto::ErrorReply{.code = std::string(errc_name(error.code)),
                                                       .sys_errno = error.sys_errno,
                                                       .stage = "control",
                                                       .text = error.text}));
}

void ControlServer::on_request(Client& client, std::string_view text) {
  const auto request = proto::ControlRequest::parse(text);
  if (!request) {
    refuse(client, request.error());
    return;
  }
  switch (request->op) {
    case ControlOp::kStatus:
      client.stream->send(FrameType::kReply, handler_.status_json());
      return;
    case ControlOp::kStop:
      client.waiting = Waiting::kStop;
      handler_.stop_asked(*request);
      return;
    case ControlOp::kKill:
      client.waiting = Waiting::kStop;
      handler_.kill_asked();
      return;
    case ControlOp::kPause:
    case ControlOp::kResume:
      client.waiting = Waiting::kPause;
      if (const auto status = handler_.pause_asked(request->op == ControlOp::kPause); !status) {
        client.waiting = Waiting::kNothing;
        refuse(client, status.error());
      }
      return;
    case ControlOp::kWait:
      client.waiting = Waiting::kEnd;
      return;
    case ControlOp::kEvents:
      client.events = true;
      client.stream->send(FrameType::kReply, "{}");
      return;
    case ControlOp::kTouch:
      handler_.touched();
      client.stream->send(FrameType::kReply, "{}");
      return;
    case ControlOp::kNet:
      if (const auto status = handler_.net_asked(client.id, request->net); !status) {
        refuse(client, status.error());
      }
      return;
  }
}

void ControlServer::announce(std::string_view state) {
  JsonWriter out;
  out.begin_object().field("event", "state").field("state", state).end_object();
  broadcast(std::move(out).take());
}

void ControlServer::announce_oom(std::uint64_t count) {
  JsonWriter out;
  out.begin_object().field("event", "oom").field("count", count).end_object();
  broadcast(std::move(out).take());
}

void ControlServer::broadcast(std::string_view event) {
  tell(FrameType::kEvent, event, [](Client& client) { return client.events; });
}

void ControlServer::pause_done() { answer(Waiting::kPause, "{}"); }

void ControlServer::net_answered(std::uint64_t client, FrameType type, std::string_view payload) {
  tell(type, payload, [client](Client& candidate) { return candidate.id == client; });
}

void ControlServer::ended(const std::string& end_json) {
  announce("stopped");
  answer(Waiting::kEnd, end_json);
  answer(Waiting::kStop, "{}");
}

void ControlServer::answer(Waiting waiting, std::string_view reply) {
  tell(FrameType::kReply, reply, [waiting](Client& client) {
    if (client.waiting != waiting) return false;
    client.waiting = Waiting::kNothing;
    return true;
  });
}

void ControlServer::tell(FrameType type, std::string_view text, const std::function<bool(Client&)>& whom) {
  // A client that does not read is closed, and leaves the list, while it is being told; its stream lives on
  // until the loop's next round.
  std::vector<FrameStream*> streams;
  for (auto& client : clients_) {
    if (whom(*client)) streams.push_back(client->stream.get());
  }
  for (FrameStream* stream : streams) stream->send(type, text);
}

void ControlServer::on_closed(FrameStream& stream, const std::string&) {
  const auto gone = std::find_if(clients_.begin(), clients_.end(),
                                 [&](const auto& client) { return client->stream.get() == &stream; });
  if (gone == clients_.end()) return;
  FrameStream::dispose(loop_, std::move((*gone)->stream));
  clients_.erase(gone);
}

}  // namespace msb::vmm
