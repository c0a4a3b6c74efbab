// SPDX-License-Identifier: Apache-2.0
// One command in the lab: its processes, its streams, what is still to be written and how much may be sent.
#pragma once

#include <poll.h>
#include <sys/types.h>

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "wire.h"

namespace msb::lab {

// The way out of the lab. Writes block: the server always reads, and the windows bound what it has to hold.
class Port {
 public:
  explicit Port(int fd) : fd_(fd) {}
  int fd() const { return fd_; }
  void send(Kind kind, std::uint32_t session, std::string_view payload);

 private:
  int fd_;
  std::string frame_;
};

// What a START frame asks for.
struct Request {
  StartHeader header = {};
  std::string directory;
  std::string out;
  std::vector<std::string> argv;
  std::vector<std::string> env;
  std::vector<std::string> ram;

  // Returns false if the payload is not one.
  static bool parse(std::string_view payload, Request& request);
};

class Session {
 public:
  Session(Port& port, std::uint32_t number);
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  // Starts the command. Returns an empty string, or why it could not be started.
  std::string start(const Request& request);

  // Appends what to wait for; take_events() must get the same entries, filled in by poll(), in the same
  // order.
  void add_poll(std::vector<pollfd>& list) const;
  void take_events(std::span<const pollfd> list);

  void on_stdin(std::string_view data);  // empty: end of the stream
  void on_ack(Kind stream, std::uint32_t bytes);
  void on_close(Kind stream);  // nobody reads it any more: the command gets a broken pipe
  void on_signal(int number);
  void on_resize(std::uint16_t rows, std::uint16_t columns);
  void kill_all();  // the client is gone
  void on_exited(int wait_status);

  // True when the command has ended and all it wrote is sent, or cannot be expected any more.
  bool finished(std::int64_t now_ms) const;
  bool ended() const { return ended_; }
  int status() const { return status_; }
  pid_t pid() const { return pid_; }

 private:
  struct Output {
    Kind kind;
    int fd = -1;
    std::uint64_t credit = kWindow;
  };

  [[noreturn]] void become(const Request& request, const int (&child)[3]);
  void pump(Output& output);
  void flush_stdin();
  void kill_cgroup();

  Port& port_;
  std::uint32_t number_;
  std::string cgroup_;
  pid_t pid_ = -1;
  bool tty_ = false;
  bool ended_ = false;
  bool writes_out_ = false;
  int status_ = 0;
  std::int64_t linger_until_ms_ = 0;
  int stdin_ = -1;
  std::string stdin_data_;
  bool stdin_ended_ = false;
  Output outputs_[2] = {{Kind::kStdout}, {Kind::kStderr}};
};

// Milliseconds of the monotonic clock.
std::int64_t now_ms();

}  // namespace msb::lab
