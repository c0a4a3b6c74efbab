// SPDX-License-Identifier: Apache-2.0
// For the agent's tests: the server in a process of its own on a Unix socket, and a blocking client of it.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <vector>

#include "base/event_loop.h"
#include "base/file.h"
#include "base/socket.h"
#include "guest-agent/server.h"
#include "proto/agent_session.h"

namespace msb::agent {

// A temporary directory that is removed with all it holds.
class TempDir {
 public:
  TempDir() {
    char pattern[] = "/tmp/msb-agent-test-XXXXXX";
    path_ = ::mkdtemp(pattern);
  }
  ~TempDir() {
    auto parent = open_file("/tmp", O_RDONLY | O_DIRECTORY);
    if (parent.ok()) (void)remove_tree(parent->get(), path_.substr(5));
  }
  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

class AgentProcess {
 public:
  explicit AgentProcess(proto::GuestConfig defaults = {}) {
    auto directory = open_file(directory_.path(), O_RDONLY | O_DIRECTORY);
    auto listener = listen_unix(directory->get(), "agent.sock", 1024);
    auto control = socket_pair(SOCK_STREAM);
    EXPECT_TRUE(listener.ok() && control.ok());
    const pid_t parent = ::getpid();
    pid_ = ::fork();
    if (pid_ == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      if (::getppid() != parent) ::_exit(1);
      control->first.reset();
      serve(std::move(defaults), std::move(*listener), std::move(control->second));
    }
    control_ = std::move(control->first);
    directory_fd_ = std::move(*directory);
  }
  ~AgentProcess() {
    if (pid_ <= 0) return;
    // Ends the sessions too, then the process leaves by itself.
    proto::ControlSession control("test");
    control.shutdown({0, 9});
    (void)::send(control_.get(), control.outgoing().data(), control.outgoing().size(), MSG_NOSIGNAL);
    ::waitpid(pid_, nullptr, 0);
  }
  AgentProcess(const AgentProcess&) = delete;
  AgentProcess& operator=(const AgentProcess&) = delete;

  [[nodiscard]] UniqueFd connect() const {
    auto socket = connect_unix(directory_fd_.get(), "agent.sock");
    EXPECT_TRUE(socket.ok());
    return socket.ok() ? std::move(*socket) : UniqueFd();
  }
  [[nodiscard]] int control() const { return control_.get(); }
  [[nodiscard]] pid_t pid() const { return pid_; }

 private:
  [[noreturn]] static void serve(proto::GuestConfig defaults, UniqueFd listener, UniqueFd control) {
    sigset_t all;
    ::sigfillset(&all);
    ::sigprocmask(SIG_SETMASK, &all, nullptr);
    ::prctl(PR_SET_CHILD_SUBREAPER, 1);
    auto loop = EventLoop::create();
    (void)set_nonblocking(listener.get(), true);
    Server::Options options;
    options.defaults = std::move(defaults);
    options.change_user = false;
    Server* running = nullptr;
    options.on_shutdown = [&](Instant) {
      running->report_shutdown_done();
      ::_exit(0);
    };
    Server server(**loop, std::move(options));
    running = &server;
    if (!server.watch_signals().ok() || !server.listen(std::move(listener)).ok() ||
        !server.start_control(std::move(control), {}).ok()) {
      ::_exit(2);
    }
    (void)(*loop)->run();
    ::_exit(3);
  }

  TempDir directory_;
  UniqueFd directory_fd_;
  UniqueFd control_;
  pid_t pid_ = -1;
};

// What an exec session said until its end.
struct ExecResult {
  proto::Started started;
  std::string out;
  std::string err;
  std::optional<proto::Exit> exit;
  std::optional<proto::ErrorReply> error;
};

// A blocking client: one operation.
class TestClient {
 public:
  explicit TestClient(const AgentProcess& agent)
      : socket_(agent.connect()), session_("test", proto::AgentSession::Transport::kDirect) {}

  proto::AgentSession& session() { return session_; }
  [[nodiscard]] int socket() const { return socket_.get(); }
  void close() { socket_.reset(); }

  void flush() {
    while (!session_.outgoing().empty()) {
      const ByteView out = session_.outgoing();
      const ssize_t sent = ::send(socket_.get(), out.data(), out.size(), MSG_NOSIGNAL);
      if (sent <= 0) return;
      session_.sent(static_cast<std::size_t>(sent));
    }
  }
  void start(proto::Request request) {
    session_.request(request);
    flush();
  }
  // Sends what waits and receives until there is an event; nullopt at the end of the stream.
  std::optional<proto::AgentEvent> next() {
    while (true) {
      auto event = session_.next(input_);
      EXPECT_TRUE(event.ok()) << event.error().text;
      if (!event.ok()) return std::nullopt;
      if (event->has_value()) return std::move(**event);
      if (session_.finished()) return std::nullopt;
      pollfd wait{socket_.get(), POLLIN, 0};
      if (!session_.outgoing().empty()) wait.events |= POLLOUT;
      ::poll(&wait, 1, -1);
      if ((wait.revents & POLLOUT) != 0) {
        const ByteView out = session_.outgoing();
        const ssize_t sent = ::send(socket_.get(), out.data(), out.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent > 0) session_.sent(static_cast<std::size_t>(sent));
      }
      if ((wait.revents & (POLLIN | POLLHUP | POLLERR)) == 0) continue;
      buffer_.resize(std::size_t{256} << 10);
      const ssize_t got = ::recv(socket_.get(), buffer_.data(), buffer_.size(), 0);
      if (got <= 0) return std::nullopt;
      input_ = ByteView(buffer_).first(static_cast<std::size_t>(got));
    }
  }
  // Until EXIT or ERROR. Events before are added to `result`.
  ExecResult finish(ExecResult result = {}) {
    while (auto event = next()) add(result, *event);
    return result;
  }
  // Until the output holds `text`.
  ExecResult until_output(const std::string& text, ExecResult result = {}) {
    while (result.out.find(text) == std::string::npos) {
      auto event = next();
      if (!event) {
        ADD_FAILURE() << "the stream ended before \"" << text << "\"; so far: " << result.out;
        break;
      }
      add(result, *event);
    }
    return result;
  }

 private:
  static void add(ExecResult& result, const proto::AgentEvent& event) {
    using Kind = proto::AgentEvent::Kind;
    switch (event.kind) {
      case Kind::kStarted:
        result.started = event.started;
        break;
      case Kind::kStdout:
        result.out += as_text(event.data);
        break;
      case Kind::kStderr:
        result.err += as_text(event.data);
        break;
      case Kind::kExit:
        result.exit = event.exit;
        break;
      case Kind::kError:
        result.error = event.error;
        break;
      default:
        ADD_FAILURE() << "unexpected event";
        break;
    }
  }

  UniqueFd socket_;
  proto::AgentSession session_;
  Bytes buffer_;
  ByteView input_;
};

inline proto::ExecRequest command(std::vector<std::string> argv) {
  proto::ExecRequest request;
  request.argv = std::move(argv);
  return request;
}
inline proto::ExecRequest shell(const std::string& script) { return command({"/bin/sh", "-c", script}); }

inline ExecResult run(const AgentProcess& agent, proto::ExecRequest request) {
  TestClient client(agent);
  client.start({std::move(request)});
  return client.finish();
}

inline proto::SessionList sessions(const AgentProcess& agent) {
  TestClient client(agent);
  client.start({proto::SessionsRequest{}});
  auto event = client.next();
  if (!event || event->kind != proto::AgentEvent::Kind::kReply) return {};
  return proto::from_json<proto::SessionList>(as_text(event->data)).value_or({});
}

}  // namespace msb::agent
