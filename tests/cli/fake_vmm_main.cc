// SPDX-License-Identifier: Apache-2.0
// A stand-in for msb-vmm in tests of the command: the same spec descriptor, ready line, leash, lock,
// state.json, control socket and vsock socket, but "the guest" is the guest agent's server running host
// processes. So the command's flows are tested end to end on machines without KVM, against the agent's own
// code.
//
// FAKE_VMM_FAIL in the spec's guest environment makes the start fail, as a machine would that does not boot.
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <mutex>
#include <string>
#include <thread>

#include "base/clock.h"
#include "base/event_loop.h"
#include "base/file.h"
#include "base/json.h"
#include "base/socket.h"
#include "guest-agent/server.h"
#include "proto/agent.h"
#include "proto/frame.h"
#include "proto/guest_config.h"

namespace msb {
namespace {

[[noreturn]] void die(const Error& error) {
  (void)write_all(STDERR_FILENO, "fake-vmm: " + error.text + "\n").ok();
  ::_exit(1);
}
template <typename T>
T must(Result<T> result) {
  if (!result.ok()) die(result.error());
  return std::move(result).value();
}
void must(const Status& status) {
  if (!status.ok()) die(status.error());
}

// The agent's server on `listener`; its own process, so that its sessions and signals are its own.
[[noreturn]] void serve_agent(proto::GuestConfig defaults, UniqueFd listener, UniqueFd control,
                              pid_t parent) {
  sigset_t all;
  ::sigfillset(&all);
  ::sigprocmask(SIG_SETMASK, &all, nullptr);
  ::prctl(PR_SET_CHILD_SUBREAPER, 1);
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) ::_exit(1);  // it was killed before we asked
  auto loop = must(EventLoop::create());
  must(set_nonblocking(listener.get(), true));
  agent::Server* running = nullptr;
  agent::Server::Options options;
  options.defaults = std::move(defaults);
  options.change_user = false;
  options.on_shutdown = [&](auto&&...) {
    running->report_shutdown_done();
    ::_exit(0);
  };
  agent::Server server(*loop, std::move(options));
  running = &server;
  must(server.watch_signals());
  must(server.listen(std::move(listener)));
  must(server.start_control(std::move(control), {}));
  must(loop->run());
  ::_exit(0);
}

void copy_bytes(int from, int to) {
  std::string buffer(65536, '\0');
  for (;;) {
    const ssize_t n = ::read(from, buffer.data(), buffer.size());
    if (n <= 0 || !write_all(to, std::string_view(buffer.data(), static_cast<std::size_t>(n))).ok()) break;
  }
  ::shutdown(to, SHUT_WR);
}

class FakeVmm {
 public:
  explicit FakeVmm(const std::string& spec)
      : document_(must(JsonDocument::parse(spec, {.max_bytes = 64U << 20U}))) {}

  int run() {
    const JsonView root = document_.root();
    const std::string path = must(root.get_string("dir"));
    dir_ = must(open_file(path, O_RDONLY | O_DIRECTORY));
    lock_ = must(open_at(dir_.get(), "lock", O_RDWR | O_CREAT));
    if (::flock(lock_.get(), LOCK_EX | LOCK_NB) != 0)
      return refuse(root, "busy", "lock", "another process runs it");
    auto config = must(proto::GuestConfig::parse(must(root.at("guest"))));
    for (const std::string& entry : config.env) {
      if (entry.starts_with("FAKE_VMM_FAIL=")) {
        (void)write_all(STDERR_FILENO, "the machine said why\n").ok();
        return refuse(root, "unavailable", "boot", entry.substr(14));
      }
    }
    config.workdir.clear();
    const std::string guest_root = path + "/guest";
    (void)::mkdir(guest_root.c_str(), 0700);
    config.env.push_back("GUEST_ROOT=" + guest_root);
    run_ = must(open_at(dir_.get(), "run", O_RDONLY | O_DIRECTORY));
    auto agent_listener = must(listen_unix(run_.get(), "agent.sock"));
    auto vsock = must(listen_unix(run_.get(), "vsock.sock"));
    auto control = must(listen_unix(run_.get(), "control.sock"));
    auto agent_control = must(socket_pair(SOCK_STREAM));
    const pid_t self = ::getpid();
    agent_ = ::fork();
    if (agent_ == 0) {
      // As the real guest: only the machine's own process keeps the sandbox's lock and sockets.
      lock_.reset();
      vsock.reset();
      control.reset();
      agent_control.first.reset();
      serve_agent(std::move(config), std::move(agent_listener), std::move(agent_control.second), self);
    }
    agent_control.second.reset();
    agent_control_ = std::move(agent_control.first);
    write_state("running");
    std::thread([this, fd = vsock.release()] { accept_loop(fd, &FakeVmm::serve_vsock); }).detach();
    std::thread([this, fd = control.release()] { accept_loop(fd, &FakeVmm::serve_control); }).detach();
    if (const auto leash = root.find("leash_fd")) {
      std::thread([this, fd = static_cast<int>(must(leash->as_int()))] {
        char byte;
        while (::read(fd, &byte, 1) > 0) {
        }
        end("owner_gone", "");
      }).detach();
    }
    const int ready = static_cast<int>(must(root.get_uint("ready_fd")));
    // The reader may have been killed: then the leash tells, as in the real one.
    (void)write_all(ready, "{\"ready\":true}\n").ok();
    ::close(ready);
    if (const auto main = root.find("main")) run_main(main->dump());
    for (;;) ::pause();
  }

 private:
  int refuse(const JsonView& root, const char* code, const char* stage, const std::string& text) {
    JsonWriter out;
    out.begin_object()
        .key("error")
        .begin_object()
        .field("code", code)
        .field("stage", stage)
        .field("text", text);
    out.end_object().end_object();
    must(write_all(static_cast<int>(must(root.get_uint("ready_fd"))), std::move(out).take() + "\n"));
    return 1;
  }

  void write_state(std::string_view state, const std::string& end_json = {}) {
    auto boot_id = must(read_file("/proc/sys/kernel/random/boot_id", 64));
    boot_id.pop_back();
    const std::string stat = must(read_file("/proc/self/stat", 4096));
    std::size_t at = stat.rfind(')');
    for (int field = 2; field < 22; ++field) at = stat.find(' ', at + 1);
    JsonWriter out;
    out.begin_object().field("version", 1).field("state", state).field("boot_id", boot_id);
    out.field("pid", static_cast<std::int64_t>(::getpid()));
    out.field("start_time", std::strtoull(stat.c_str() + at + 1, nullptr, 10))
        .field("started_ns", wall_clock_ns());
    if (!end_json.empty()) out.key("end").raw(end_json);
    out.end_object();
    (void)write_file_atomic(dir_.get(), "state.json", std::move(out).take(), 0600, Durability::kBuffered)
        .ok();
  }

  // Ends the sandbox; never returns. The first reason counts: a client that hears of the end and lets go of
  // its leash is too late to give another. `asker` gets its answer, those that wait get the ending.
  [[noreturn]] void end(const std::string& reason, const std::string& exit_members, int asker = -1) {
    if (ending_.exchange(true)) {
      for (;;) ::pause();
    }
    ::kill(agent_, SIGKILL);
    ::waitpid(agent_, nullptr, 0);
    const std::string json = "{\"reason\":\"" + reason + "\"" + exit_members +
                             ",\"at_ns\":" + std::to_string(wall_clock_ns()) + "}";
    write_state("stopped", json);
    if (document_.root().get_bool_or("ephemeral", false).value_or(false)) {
      const std::string dir = must(document_.root().get_string("dir"));
      const std::string hidden = parent_path(dir) + "/.rm-" + std::to_string(::getpid());
      if (::rename(dir.c_str(), hidden.c_str()) == 0) hidden_ = hidden;
    }
    if (asker >= 0) send_frame(asker, proto::FrameType::kReply, "{}");
    const std::lock_guard<std::mutex> guard(waiting_mutex_);
    for (const int fd : waiting_) send_frame(fd, proto::FrameType::kReply, json);
    if (!hidden_.empty()) (void)remove_tree(AT_FDCWD, hidden_).ok();
    ::_exit(0);
  }

  void accept_loop(int listener, void (FakeVmm::*serve)(int)) {
    for (;;) {
      const int fd = ::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
      if (fd < 0) continue;
      std::thread([this, serve, fd] { (this->*serve)(fd); }).detach();
    }
  }

  void serve_vsock(int client) {
    std::string line;
    char c = 0;
    while (line.size() < 64 && ::read(client, &c, 1) == 1 && c != '\n') line += c;
    auto upstream = connect_unix(run_.get(), "agent.sock");
    if (line != "CONNECT 1024" || !upstream.ok() || !write_all(client, "OK 5000\n").ok()) {
      ::close(client);
      return;
    }
    std::thread back([&] { copy_bytes(upstream->get(), client); });
    copy_bytes(client, upstream->get());
    back.join();
    ::close(client);
  }

  static void send_frame(int fd, proto::FrameType type, std::string_view payload) {
    Bytes out;
    proto::append_frame(out, type, payload);
    (void)write_all(fd, as_text(out)).ok();
  }

  void serve_control(int client) {
    proto::FrameDecoder decoder;
    Bytes buffer(4096);
    for (;;) {
      const ssize_t n = ::read(client, buffer.data(), buffer.size());
      if (n <= 0) break;
      ByteView rest = ByteView(buffer).first(static_cast<std::size_t>(n));
      for (;;) {
        auto frame = decoder.next(rest);
        if (!frame.ok() || !frame->has_value()) break;
        if ((*frame)->type() == proto::FrameType::kHello) {
          send_frame(client, proto::FrameType::kHello, proto::to_json(proto::Hello{}));
        } else if ((*frame)->type() == proto::FrameType::kRequest) {
          control_request(client, std::string(as_text((*frame)->payload)));
        }
      }
    }
    const std::lock_guard<std::mutex> guard(waiting_mutex_);
    std::erase(waiting_, client);
    ::close(client);
  }

  void control_request(int client, const std::string& json) {
    const auto request = JsonDocument::parse(json);
    const std::string op = request.ok() ? request->root().get_string_or("op", "").value_or("") : "";
    if (op == "stop" || op == "kill") {
      if (!ending_) write_state("stopping");
      end(op == "stop" ? "stopped" : "killed", "", client);
    }
    if (op == "wait") {
      const std::lock_guard<std::mutex> guard(waiting_mutex_);
      waiting_.push_back(client);
      return;
    }
    send_frame(client, proto::FrameType::kReply, "{}");
    if (op == "events")
      send_frame(client, proto::FrameType::kEvent, R"({"event":"state","state":"running"})");
  }

  // As the supervisor role does: the main command's end ends the sandbox.
  void run_main(const std::string& request) {
    auto socket = must(connect_unix(run_.get(), "agent.sock"));
    Bytes out;
    proto::append_frame(out, proto::FrameType::kHello, proto::to_json(proto::Hello{}));
    proto::append_frame(out, proto::FrameType::kRequest, request);
    must(write_all(socket.get(), as_text(out)));
    std::thread([this, fd = socket.release()] {
      proto::FrameDecoder decoder;
      Bytes buffer(65536);
      for (;;) {
        const ssize_t n = ::read(fd, buffer.data(), buffer.size());
        if (n <= 0) break;
        ByteView rest = ByteView(buffer).first(static_cast<std::size_t>(n));
        for (;;) {
          auto frame = decoder.next(rest);
          if (!frame.ok() || !frame->has_value()) break;
          if ((*frame)->type() != proto::FrameType::kExit) continue;
          const auto exit = proto::from_json<proto::Exit>(as_text((*frame)->payload));
          if (exit.ok() && exit->code) end("main_exited", ",\"code\":" + std::to_string(*exit->code));
          if (exit.ok() && exit->signal) end("main_exited", ",\"signal\":" + std::to_string(*exit->signal));
        }
      }
      end("main_exited", "");
    }).detach();
  }

  JsonDocument document_;
  UniqueFd dir_;
  UniqueFd lock_;
  UniqueFd run_;
  UniqueFd agent_control_;
  pid_t agent_ = -1;
  std::atomic<bool> ending_{false};
  std::string hidden_;
  std::mutex waiting_mutex_;
  std::vector<int> waiting_;
};

}  // namespace
}  // namespace msb

int main(int argc, char** argv) {
  ::signal(SIGPIPE, SIG_IGN);
  if (argc != 3 || std::string_view(argv[1]) != "--spec-fd") return 2;
  const auto spec = msb::read_all(static_cast<int>(std::strtol(argv[2], nullptr, 10)), std::size_t{64} << 20);
  return spec.ok() ? msb::FakeVmm(*spec).run() : 1;
}
