// SPDX-License-Identifier: Apache-2.0
// A command started by exec: its process, its standard streams, and what was asked of it.
//
// Theory of operation. The session reads stdout and stderr (or the pty) only while its client keeps up, so
// the program blocks in write(2) as it would on a slow pipe. A detachable session also records its last
// megabyte, and without a client it reads on into that record alone. Input goes the other way: what the
// program does not take yet is held (at most one frame), and the client's connection is not read meanwhile.
//
// The end. When the process is reaped, what it had written is already in the pipes: exactly so many bytes are
// still delivered, then EXIT. A background process that keeps the pipe open delays nothing; its later output
// is read and dropped, so that it does not die of SIGPIPE.
#pragma once

#include <sys/types.h>

#include <array>
#include <cstdint>
#include <optional>
#include <string>

#include "base/event_loop.h"
#include "base/unique_fd.h"
#include "guest-agent/output_history.h"
#include "proto/agent.h"
#include "proto/frame.h"

namespace msb::agent {

class Session;

// The connection that is attached to a session.
class SessionClient {
 public:
  virtual ~SessionClient() = default;
  virtual void session_output(proto::FrameType stream, ByteView data) = 0;
  [[nodiscard]] virtual bool output_backlogged() const = 0;
  // The program took all input held: more may come.
  virtual void input_drained() = 0;
  // All output is delivered. The session forgets the client.
  virtual void session_exited(const proto::Exit& exit) = 0;
};

class SessionOwner {
 public:
  virtual ~SessionOwner() = default;
  virtual void session_log(const Session& session, proto::LogStream stream, ByteView data) = 0;
  // The process is gone and its output delivered or recorded.
  virtual void session_ended(Session& session) = 0;
  // Nothing is left to read from it: an ended session without a record to keep may be destroyed (later).
  virtual void session_quiet(Session& session) = 0;
};

// Our ends of a program's standard streams. With a terminal, `out` and `in` are its master and `err` is
// empty.
struct SessionStreams {
  UniqueFd in;
  UniqueFd out;
  UniqueFd err;
};

class Session {
 public:
  Session(EventLoop& loop, SessionOwner& owner, std::uint64_t id, const proto::ExecRequest& request);
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  // The program runs as process `pid`.
  [[nodiscard]] Status start(pid_t pid, SessionStreams streams);
  // `pid` was reaped with this wait status.
  void on_reaped(int status);

  [[nodiscard]] std::uint64_t id() const { return id_; }
  [[nodiscard]] pid_t pid() const { return pid_; }
  [[nodiscard]] bool running() const { return pid_ > 0 && !exit_; }
  [[nodiscard]] bool ended() const { return ended_; }
  [[nodiscard]] bool detachable() const { return detachable_; }
  [[nodiscard]] bool logged() const { return log_; }
  [[nodiscard]] bool tty() const { return tty_; }
  [[nodiscard]] const std::string& name() const { return name_; }
  [[nodiscard]] const std::optional<proto::Exit>& exit() const { return exit_; }
  [[nodiscard]] bool open_streams() const { return out_.fd.valid() || err_.fd.valid(); }
  [[nodiscard]] proto::SessionInfo info() const;

  // Connects `client` (borrowed until detach() or session_exited). attach() sends what is recorded from
  // position `from` on; the first byte really sent is the return value.
  [[nodiscard]] std::uint64_t attach_position(std::optional<std::uint64_t> from) const;
  void attach(SessionClient& client, std::uint64_t from);
  void detach();
  [[nodiscard]] SessionClient* client() const { return client_; }
  // The client's backlog is empty again.
  void resume_output();

  // True if all was taken; otherwise input_drained() follows, and no input may be given until then.
  [[nodiscard]] bool write_input(ByteView data);
  void close_input();
  void resize(proto::TtySize size);
  // To the process group, while the process is not reaped. Errors: kUnavailable when it has ended.
  [[nodiscard]] Status signal(int number);
  // Hang-up, then SIGKILL: nobody is left who wants it.
  void kill_abandoned();

 private:
  struct Stream {
    UniqueFd fd;
    EventLoop::IoToken token;
    proto::FrameType frame = proto::FrameType::kStdout;
    proto::LogStream log = proto::LogStream::kStdout;
    bool watched = false;
    // Set at the end of the process: bytes still to deliver. 0: the rest is dropped.
    std::optional<std::size_t> remaining;
    [[nodiscard]] bool delivered() const { return !fd.valid() || remaining == std::size_t{0}; }
  };

  [[nodiscard]] Status watch_stream(Stream& stream);
  void watch_output();
  void on_readable(Stream& stream);
  void read_once(Stream& stream);
  void drain_terminal();
  void close_stream(Stream& stream);
  void limit_remaining(Stream& stream);
  void deliver(Stream& stream, ByteView data);
  void on_input_ready();
  bool flush_input();
  void drop_input();
  void maybe_end();
  void on_timeout();

  EventLoop& loop_;
  SessionOwner& owner_;
  const std::uint64_t id_;
  std::string name_;
  std::vector<std::string> argv_;
  std::string user_;
  const bool tty_;
  const bool detachable_;
  const bool log_;
  const std::uint64_t timeout_ms_;
  std::int64_t started_ns_ = 0;

  pid_t pid_ = -1;
  std::optional<proto::Exit> exit_;
  bool timed_out_ = false;
  bool ended_ = false;
  EventLoop::TimerToken timer_ = 0;

  Stream out_;
  Stream err_;
  UniqueFd in_;
  EventLoop::IoToken in_token_;
  Bytes input_;  // held for the program
  std::size_t input_done_ = 0;
  bool close_input_after_ = false;

  SessionClient* client_ = nullptr;
  OutputHistory history_;
  std::uint64_t output_end_ = 0;
};

}  // namespace msb::agent
