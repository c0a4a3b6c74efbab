// SPDX-License-Identifier: Apache-2.0
#include "guest-agent/client.h"

#include <utility>
#include <variant>

#include "guest-agent/file_service.h"
#include "guest-agent/server.h"

namespace msb::agent {
namespace {

// REPLY {}: done, nothing to tell.
struct EmptyReply {
  void write(JsonWriter& out) const { out.begin_object().end_object(); }
};

Error protocol_error(const char* what) { return make_error(Errc::kProtocol, "%s", what); }

}  // namespace

Client::Client(EventLoop& loop, Server& server, UniqueFd socket)
    : server_(server), connection_(loop, std::move(socket), *this) {}

Client::~Client() = default;

void Client::fail(const proto::ErrorReply& error) {
  if (gone()) return;
  state_ = State::kFinishing;
  connection_.send_message(proto::FrameType::kError, error);
  connection_.finish();
}

void Client::fail_with(const Error& error, std::string_view stage) {
  fail({std::string(errc_name(error.code)), error.sys_errno, std::string(stage), error.text});
}

template <typename Message>
void Client::reply(const Message& message) {
  state_ = State::kFinishing;
  connection_.send_message(proto::FrameType::kReply, message);
  connection_.finish();
}

void Client::on_frame(const proto::Frame& frame) {
  switch (state_) {
    case State::kHello:
      on_hello(frame);
      break;
    case State::kRequest:
      on_request(frame);
      break;
    case State::kSession:
      on_session_frame(frame);
      break;
    case State::kStarting:  // paused
    case State::kFinishing:
    case State::kDone:
      break;
  }
}

void Client::on_hello(const proto::Frame& frame) {
  if (frame.type() != proto::FrameType::kHello) {
    fail_with(protocol_error("the first frame must be HELLO"), "hello");
    return;
  }
  const proto::Hello ours{proto::kAgentVersion, proto::kAgentMinVersion, std::string(kAgentName)};
  // Queued: it travels with the answer to the request that usually follows in the same packet.
  connection_.queue(proto::FrameType::kHello, as_bytes(proto::to_json(ours)));
  auto theirs = proto::from_json<proto::Hello>(as_text(frame.payload));
  if (!theirs.ok()) {
    fail_with(theirs.error(), "hello");
    return;
  }
  if (const auto version = proto::negotiate(ours, *theirs); !version.ok()) {
    fail_with(make_error(Errc::kUnsupported, "no protocol version in common"), "hello");
    return;
  }
  state_ = State::kRequest;
}

void Client::on_batch_end() {
  // No answer is on its way that would take the HELLO along.
  if (state_ == State::kRequest) connection_.flush();
}

void Client::on_request(const proto::Frame& frame) {
  if (frame.type() == proto::FrameType::kPing) {
    connection_.send(proto::FrameType::kPong, {});
    return;
  }
  if (frame.type() != proto::FrameType::kRequest) {
    fail_with(protocol_error("a REQUEST must follow the HELLO"), "request");
    return;
  }
  auto request = proto::from_json<proto::Request>(as_text(frame.payload));
  if (!request.ok()) {
    fail_with(request.error(), "request");
    return;
  }
  std::visit([&](auto&& op) { handle(std::forward<decltype(op)>(op)); }, std::move(request->op));
}

void Client::handle(proto::ExecRequest request) {
  server_.count_operation();
  state_ = State::kStarting;
  connection_.pause();  // input waits in the transport until there is a program for it
  server_.start_exec(*this, std::move(request));
}

void Client::on_started(Session& session) {
  session_ = session.id();
  state_ = State::kSession;
  connection_.send_message(proto::FrameType::kStarted,
                           proto::Started{session.id(), session.pid(), 0, session.tty()});
  session.attach(*this, 0);
  connection_.resume();
}

void Client::handle(const proto::AttachRequest& request) {
  server_.count_operation();
  Session* session = server_.find_session(request.session);
  if (session == nullptr || !session->detachable()) {
    fail_with(make_error(Errc::kNotFound, "no session %llu to attach to",
                         static_cast<unsigned long long>(request.session)),
              "attach");
    return;
  }
  if (SessionClient* other = session->client()) {
    if (!request.steal) {
      fail_with(make_error(Errc::kBusy, "session %llu is attached to another client",
                           static_cast<unsigned long long>(request.session)),
                "attach");
      return;
    }
    session->detach();
    static_cast<Client*>(other)->session_stolen();
  }
  session_ = session->id();
  state_ = State::kSession;
  const std::uint64_t from = session->attach_position(request.from);
  connection_.send_message(proto::FrameType::kStarted,
                           proto::Started{session->id(), session->pid(), from, session->tty()});
  session->attach(*this, from);
}

void Client::session_stolen() {
  session_ = 0;
  fail_with(make_error(Errc::kBusy, "another client took over the session"), "attach");
}

void Client::handle(const proto::SessionsRequest& /*request*/) { reply(server_.list_sessions()); }

void Client::handle(const proto::KillRequest& request) {
  server_.count_operation();
  Session* session = server_.find_session(request.session);
  if (session == nullptr) {
    fail_with(
        make_error(Errc::kNotFound, "no session %llu", static_cast<unsigned long long>(request.session)),
        "kill");
    return;
  }
  if (const Status status = session->signal(request.signal); !status.ok()) {
    fail_with(Status(status).error(), "kill");
    return;
  }
  reply(EmptyReply{});
}

void Client::handle(const proto::InfoRequest& /*request*/) { reply(server_.info()); }
void Client::handle(const proto::PingRequest& /*request*/) { reply(EmptyReply{}); }

void Client::handle(proto::FileRequest request) {
  server_.count_operation();
  auto service = std::make_shared<FileService>(std::move(request), connection_.hand_over());
  state_ = State::kDone;
  if (!server_.workers().submit([service] { service->run(); })) {
    service->refuse(make_error(Errc::kLimit, "too many file operations at once"));
  }
  server_.retire(*this);
}

void Client::on_session_frame(const proto::Frame& frame) {
  Session* session = server_.find_session(session_);
  if (session == nullptr) return;
  switch (frame.type()) {
    case proto::FrameType::kStdin:
      if (!session->write_input(frame.payload)) connection_.pause();
      return;
    case proto::FrameType::kStdinEof:
      session->close_input();
      return;
    case proto::FrameType::kSignal: {
      auto message = proto::from_json<proto::SignalMessage>(as_text(frame.payload));
      if (!message.ok()) break;
      (void)session->signal(message->signal);  // ended meanwhile: EXIT is on its way
      return;
    }
    case proto::FrameType::kResize: {
      auto message = proto::from_json<proto::Resize>(as_text(frame.payload));
      if (!message.ok()) break;
      session->resize(message->size);
      return;
    }
    case proto::FrameType::kDetach:
      if (!session->detachable()) break;  // it would have to die: the client is wrong to ask
      detach();
      reply(EmptyReply{});
      return;
    case proto::FrameType::kPing:
      connection_.send(proto::FrameType::kPong, {});
      return;
    default:
      break;
  }
  // A client that breaks the protocol is treated as gone, after being told.
  detach();
  fail_with(protocol_error("unexpected or malformed frame in a session"), "session");
}

void Client::detach() {
  Session* session = server_.find_session(std::exchange(session_, 0));
  if (session == nullptr || session->client() != this) return;
  session->detach();
  if (!session->detachable()) session->kill_abandoned();
}

void Client::on_drained() {
  if (state_ != State::kSession) return;
  if (Session* session = server_.find_session(session_)) session->resume_output();
}

void Client::on_gone(const Status& /*why*/) {
  detach();
  state_ = State::kDone;
  server_.retire(*this);
}

void Client::session_output(proto::FrameType stream, ByteView data) { connection_.send(stream, data); }

void Client::input_drained() { connection_.resume(); }

void Client::session_exited(const proto::Exit& exit) {
  session_ = 0;
  state_ = State::kFinishing;
  connection_.send_message(proto::FrameType::kExit, exit);
  connection_.finish();
}

}  // namespace msb::agent
