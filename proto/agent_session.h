// SPDX-License-Identifier: Apache-2.0
// The host's side of the agent protocol as state machines without I/O: bytes received go in, events come out;
// commands go in, bytes to send come out. Whoever owns the socket moves the bytes, blocking or on an event
// loop.
//
//   AgentSession session("msb 0.1.0", AgentSession::Transport::kVsockProxy);
//   session.request(Request{exec});
//   loop: send session.outgoing(), session.sent(n); receive into `input`;
//         while (auto event = session.next(input)) ... until session.finished().
//
// The guest is hostile: whatever it sends ends as an event, or as an error after which the connection is to
// be closed. Memory is bounded by one frame in each direction plus what the caller queues: stop queueing
// input while outgoing() is not empty.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "base/result.h"
#include "proto/agent.h"
#include "proto/frame.h"

namespace msb::proto {

struct AgentEvent {
  enum class Kind : std::uint8_t {
    kStarted,  // `started`
    kStdout,   // `data`
    kStderr,   // `data`
    kExit,     // `exit`; the last event
    kReply,    // `data`: JSON text; parse with from_json<FileInfo> and the like
    kError,    // `error`; the last event
    kData,     // `data`: file contents
    kDataEof,
    kEntry,  // `data`: JSON text of a DirBatch or TreeEntry
    kEvent,  // `data`: JSON text of a WatchEvent
    kPong,
  };
  Kind kind = Kind::kPong;
  ByteView data;  // valid until the next call of next()
  Started started;
  Exit exit;
  ErrorReply error;
};

// One operation on one connection to kAgentPort.
class AgentSession {
 public:
  enum class Transport : std::uint8_t {
    kDirect,      // the socket leads to the agent
    kVsockProxy,  // a sandbox's vsock.sock: "CONNECT <port>\n" first, answered by "OK <port>\n"
  };
  // `program` names the client, for people.
  AgentSession(std::string_view program, Transport transport);

  // Once, first of all commands; it may be sent before anything was received.
  void request(const Request& request);
  // In an exec or attach session. Input is cut into frames of a size the agent handles well.
  void write_stdin(ByteView data);
  void close_stdin();
  void signal(int number);
  void resize(TtySize size);
  void detach();  // detachable sessions; answered by kReply
  // For write and tree_in.
  void entry(const TreeEntry& entry);
  void data(ByteView bytes);
  void data_eof();
  void ping();

  // What is to be sent, and that `count` bytes of it were.
  [[nodiscard]] ByteView outgoing() const { return ByteView(out_).subspan(sent_); }
  void sent(std::size_t count);

  // Takes from the front of `input` until there is an event; nullopt when `input` is used up.
  // Errors: kUnavailable when the proxy refused the connection, kUnsupported for an agent of another version,
  // kProtocol for anything that is not this protocol.
  [[nodiscard]] Result<std::optional<AgentEvent>> next(ByteView& input);

  // The last event has come. The end of the stream before that means the guest or its agent is gone.
  [[nodiscard]] bool finished() const { return finished_; }

 private:
  [[nodiscard]] Result<bool> take_proxy_answer(ByteView& input);
  [[nodiscard]] Result<AgentEvent> to_event(const Frame& frame);
  void put(FrameType type, ByteView payload) { append_frame(out_, type, payload); }

  Bytes out_;
  std::size_t sent_ = 0;
  FrameDecoder decoder_;
  std::string proxy_answer_;
  bool awaiting_proxy_;
  bool greeted_ = false;
  bool reply_ends_ = true;  // REPLY is the last frame: not in read, watch
  bool finished_ = false;
};

struct ControlChannelEvent {
  enum class Kind : std::uint8_t {
    kReady,         // `ready`
    kError,         // `error`: the guest could not be set up
    kLog,           // `log`
    kEvent,         // `event`
    kReply,         // `data`: JSON text of the answer to info() (GuestInfo)
    kShutdownDone,  // disks are final; the machine may end
    kPong,
  };
  Kind kind = Kind::kPong;
  ByteView data;
  Ready ready;
  ErrorReply error;
  LogRecord log;
  ControlEvent event;
};

// The control channel, which the agent opens to kReadyPort. Not the proxy: the socket leads to the agent.
class ControlSession {
 public:
  explicit ControlSession(std::string_view program);
  void shutdown(const Shutdown& message);
  void set_clock(std::int64_t wall_ns);
  void info();
  void ping();
  [[nodiscard]] ByteView outgoing() const { return ByteView(out_).subspan(sent_); }
  void sent(std::size_t count);
  // As AgentSession::next. Unknown frame types and events of a newer agent are skipped.
  [[nodiscard]] Result<std::optional<ControlChannelEvent>> next(ByteView& input);

 private:
  [[nodiscard]] Result<std::optional<ControlChannelEvent>> to_event(const Frame& frame);

  Bytes out_;
  std::size_t sent_ = 0;
  FrameDecoder decoder_;
  bool greeted_ = false;
};

}  // namespace msb::proto
