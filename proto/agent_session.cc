// SPDX-License-Identifier: Apache-2.0
#include "proto/agent_session.h"

#include <algorithm>
#include <utility>
#include <variant>

namespace msb::proto {
namespace {

// Large enough to be cheap, small enough that a signal or resize queued behind it is not late.
constexpr std::size_t kInputFrameBytes = std::size_t{64} << 10;
// "OK 4294967295\n"
constexpr std::size_t kMaxProxyAnswer = 16;

Bytes greeting(std::string_view program) {
  Bytes out;
  append_frame(out, FrameType::kHello, to_json(Hello{kAgentVersion, kAgentMinVersion, std::string(program)}));
  return out;
}

void drop_sent(Bytes& out, std::size_t& sent, std::size_t count) {
  sent += std::min(count, out.size() - sent);
  if (sent == out.size()) {
    out.clear();
    sent = 0;
  }
}

// The agent's HELLO, or the ERROR it sends instead.
Status check_hello(const Frame& frame) {
  if (frame.type() != FrameType::kHello)
    return make_error(Errc::kProtocol, "the agent did not say HELLO first");
  MSB_ASSIGN(const Hello hello, from_json<Hello>(as_text(frame.payload)));
  MSB_TRY(negotiate(Hello{}, hello));
  return {};
}

}  // namespace

AgentSession::AgentSession(std::string_view program, Transport transport)
    : awaiting_proxy_(transport == Transport::kVsockProxy) {
  if (awaiting_proxy_) {
    const std::string connect = "CONNECT " + std::to_string(kAgentPort) + "\n";
    out_.insert(out_.end(), connect.begin(), connect.end());
  }
  const Bytes hello = greeting(program);
  out_.insert(out_.end(), hello.begin(), hello.end());
}

void AgentSession::request(const Request& request) {
  if (const auto* file = std::get_if<FileRequest>(&request.op)) {
    reply_ends_ = file->op != FileOp::kRead && file->op != FileOp::kWatch;
  }
  put(FrameType::kRequest, as_bytes(to_json(request)));
}

void AgentSession::write_stdin(ByteView data) {
  while (!data.empty()) {
    const ByteView part = data.first(std::min(data.size(), kInputFrameBytes));
    put(FrameType::kStdin, part);
    data = data.subspan(part.size());
  }
}
void AgentSession::close_stdin() { put(FrameType::kStdinEof, {}); }
void AgentSession::signal(int number) { put(FrameType::kSignal, as_bytes(to_json(SignalMessage{number}))); }
void AgentSession::resize(TtySize size) { put(FrameType::kResize, as_bytes(to_json(Resize{size}))); }
void AgentSession::detach() { put(FrameType::kDetach, {}); }
void AgentSession::entry(const TreeEntry& entry) { put(FrameType::kEntry, as_bytes(to_json(entry))); }
void AgentSession::data(ByteView bytes) {
  while (!bytes.empty()) {
    const ByteView part = bytes.first(std::min(bytes.size(), kMaxFramePayload));
    put(FrameType::kData, part);
    bytes = bytes.subspan(part.size());
  }
}
void AgentSession::data_eof() { put(FrameType::kDataEof, {}); }
void AgentSession::ping() { put(FrameType::kPing, {}); }
void AgentSession::sent(std::size_t count) { drop_sent(out_, sent_, count); }

// True once the answer is complete and good.
Result<bool> AgentSession::take_proxy_answer(ByteView& input) {
  const auto refused = [] {
    return make_error(Errc::kUnavailable, "the sandbox did not connect us to its agent");
  };
  while (!input.empty()) {
    const char c = static_cast<char>(input.front());
    input = input.subspan(1);
    if (c == '\n') {
      const bool digits =
          proxy_answer_.size() > 3 && std::all_of(proxy_answer_.begin() + 3, proxy_answer_.end(),
                                                  [](char digit) { return digit >= '0' && digit <= '9'; });
      if (!proxy_answer_.starts_with("OK ") || !digits) return refused();
      awaiting_proxy_ = false;
      return true;
    }
    proxy_answer_ += c;
    if (proxy_answer_.size() > kMaxProxyAnswer) return refused();
  }
  return false;
}

Result<AgentEvent> AgentSession::to_event(const Frame& frame) {
  AgentEvent event;
  event.data = frame.payload;
  const std::string_view text = as_text(frame.payload);
  using Kind = AgentEvent::Kind;
  switch (frame.type()) {
    case FrameType::kStarted: {
      event.kind = Kind::kStarted;
      MSB_ASSIGN(event.started, from_json<Started>(text));
      return event;
    }
    case FrameType::kExit: {
      event.kind = Kind::kExit;
      MSB_ASSIGN(event.exit, from_json<Exit>(text));
      finished_ = true;
      return event;
    }
    case FrameType::kError: {
      event.kind = Kind::kError;
      MSB_ASSIGN(event.error, from_json<ErrorReply>(text));
      finished_ = true;
      return event;
    }
    case FrameType::kReply:
      event.kind = Kind::kReply;
      finished_ = reply_ends_;
      return event;
    case FrameType::kDataEof:
      event.kind = Kind::kDataEof;
      // In a read the contents come last; in a tree transfer the REPLY does.
      finished_ = !reply_ends_;
      return event;
    case FrameType::kStdout:
      event.kind = Kind::kStdout;
      return event;
    case FrameType::kStderr:
      event.kind = Kind::kStderr;
      return event;
    case FrameType::kData:
      event.kind = Kind::kData;
      return event;
    case FrameType::kEntry:
      event.kind = Kind::kEntry;
      return event;
    case FrameType::kEvent:
      event.kind = Kind::kEvent;
      return event;
    case FrameType::kPong:
      event.kind = Kind::kPong;
      return event;
    default:
      return make_error(Errc::kProtocol, "the agent sent a frame of type %u", unsigned{frame.raw_type});
  }
}

Result<std::optional<AgentEvent>> AgentSession::next(ByteView& input) {
  if (awaiting_proxy_) {
    MSB_ASSIGN(const bool connected, take_proxy_answer(input));
    if (!connected) return std::optional<AgentEvent>();
  }
  while (!finished_) {
    MSB_ASSIGN(const std::optional<Frame> frame, decoder_.next(input));
    if (!frame) return std::optional<AgentEvent>();
    if (!greeted_ && frame->type() != FrameType::kError) {
      MSB_TRY(check_hello(*frame));
      greeted_ = true;
      continue;
    }
    MSB_ASSIGN(AgentEvent event, to_event(*frame));
    return std::optional<AgentEvent>(std::move(event));
  }
  input = {};
  return std::optional<AgentEvent>();
}

ControlSession::ControlSession(std::string_view program) : out_(greeting(program)) {}
void ControlSession::shutdown(const Shutdown& message) {
  append_frame(out_, FrameType::kShutdown, to_json(message));
}
void ControlSession::set_clock(std::int64_t wall_ns) {
  append_frame(out_, FrameType::kClock, to_json(ClockMessage{wall_ns}));
}
void ControlSession::info() { append_frame(out_, FrameType::kRequest, to_json(Request{InfoRequest{}})); }
void ControlSession::ping() { append_frame(out_, FrameType::kPing); }
void ControlSession::sent(std::size_t count) { drop_sent(out_, sent_, count); }

Result<std::optional<ControlChannelEvent>> ControlSession::to_event(const Frame& frame) {
  ControlChannelEvent event;
  event.data = frame.payload;
  const std::string_view text = as_text(frame.payload);
  using Kind = ControlChannelEvent::Kind;
  switch (frame.type()) {
    case FrameType::kReady: {
      event.kind = Kind::kReady;
      MSB_ASSIGN(event.ready, from_json<Ready>(text));
      break;
    }
    case FrameType::kError: {
      event.kind = Kind::kError;
      MSB_ASSIGN(event.error, from_json<ErrorReply>(text));
      break;
    }
    case FrameType::kLog: {
      event.kind = Kind::kLog;
      MSB_ASSIGN(event.log, parse_log(frame.payload));
      break;
    }
    case FrameType::kEvent: {
      event.kind = Kind::kEvent;
      auto parsed = from_json<ControlEvent>(text);
      if (!parsed.ok()) return std::optional<ControlChannelEvent>();
      event.event = std::move(parsed).value();
      break;
    }
    case FrameType::kReply:
      event.kind = Kind::kReply;
      break;
    case FrameType::kShutdownDone:
      event.kind = Kind::kShutdownDone;
      break;
    case FrameType::kPong:
      event.kind = Kind::kPong;
      break;
    default:
      return std::optional<ControlChannelEvent>();
  }
  return std::optional<ControlChannelEvent>(std::move(event));
}

Result<std::optional<ControlChannelEvent>> ControlSession::next(ByteView& input) {
  while (true) {
    MSB_ASSIGN(const std::optional<Frame> frame, decoder_.next(input));
    if (!frame) return std::optional<ControlChannelEvent>();
    if (!greeted_) {
      MSB_TRY(check_hello(*frame));
      greeted_ = true;
      continue;
    }
    MSB_ASSIGN(auto event, to_event(*frame));
    if (event) return event;
  }
}

}  // namespace msb::proto
