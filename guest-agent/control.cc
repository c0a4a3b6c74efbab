// SPDX-License-Identifier: Apache-2.0
#include "guest-agent/control.h"

#include <time.h>

#include <algorithm>
#include <utility>
#include <variant>

#include "guest-agent/server.h"

namespace msb::agent {
namespace {
constexpr std::size_t kMaxLogBacklog = std::size_t{1} << 20;
constexpr std::int64_t kSecond = 1'000'000'000;
}  // namespace

Control::Control(EventLoop& loop, Server& server, UniqueFd socket)
    : server_(server), connection_(loop, std::move(socket), *this) {}

Status Control::start(const proto::Ready& ready) {
  MSB_TRY(connection_.start());
  const proto::Hello hello{proto::kAgentVersion, proto::kAgentMinVersion, std::string(kAgentName)};
  connection_.queue(proto::FrameType::kHello, as_bytes(proto::to_json(hello)));
  connection_.queue(proto::FrameType::kReady, as_bytes(proto::to_json(ready)));
  connection_.flush();
  return {};
}

void Control::on_frame(const proto::Frame& frame) {
  const std::string_view text = as_text(frame.payload);
  if (!greeted_) {
    greeted_ = frame.type() == proto::FrameType::kHello;
    return;  // a host that does not say HELLO is not understood
  }
  switch (frame.type()) {
    case proto::FrameType::kShutdown:
      if (auto request = proto::from_json<proto::Shutdown>(text); request.ok()) {
        server_.begin_shutdown(*request);
      } else {
        // The host wants the end, however badly it says so.
        server_.begin_shutdown({});
      }
      return;
    case proto::FrameType::kClock:
      if (auto message = proto::from_json<proto::ClockMessage>(text); message.ok()) {
        const timespec now{static_cast<time_t>(message->wall_ns / kSecond),
                           static_cast<long>(message->wall_ns % kSecond)};
        ::clock_settime(CLOCK_REALTIME, &now);
      }
      return;
    case proto::FrameType::kPing:
      connection_.send(proto::FrameType::kPong, {});
      return;
    case proto::FrameType::kRequest: {
      auto request = proto::from_json<proto::Request>(text);
      if (request.ok() && std::holds_alternative<proto::InfoRequest>(request->op)) {
        connection_.send_message(proto::FrameType::kReply, server_.info());
      } else if (request.ok() && std::holds_alternative<proto::SessionsRequest>(request->op)) {
        connection_.send_message(proto::FrameType::kReply, server_.list_sessions());
      } else {
        connection_.send_message(proto::FrameType::kError, proto::ErrorReply{"unsupported", 0, "request",
                                                                             "not offered on this channel"});
      }
      return;
    }
    default:
      return;
  }
}

void Control::on_gone(const Status& /*why*/) { gone_ = true; }

void Control::log(std::uint64_t session, proto::LogStream stream, ByteView data) {
  if (gone_) return;
  std::uint64_t& dropped = dropped_[session];
  if (connection_.backlog_bytes() + data.size() > kMaxLogBacklog) {
    dropped += data.size();
    return;
  }
  proto::LogHeader header;
  header.session = session;
  header.dropped = std::exchange(dropped, 0);
  header.stream = static_cast<std::uint8_t>(stream);
  const auto* raw = reinterpret_cast<const std::uint8_t*>(&header);
  Bytes payload(raw, raw + sizeof header);
  payload.insert(payload.end(), data.begin(), data.end());
  connection_.send(proto::FrameType::kLog, payload);
}

void Control::event(const proto::ControlEvent& event) {
  if (gone_ || connection_.backlog_bytes() > kMaxLogBacklog + proto::kMaxJsonPayload) return;
  connection_.send_message(proto::FrameType::kEvent, event);
}

void Control::shutdown_done() {
  if (gone_) return;
  connection_.send(proto::FrameType::kShutdownDone, {});
  connection_.flush_blocking(1000);
}

}  // namespace msb::agent
