// SPDX-License-Identifier: Apache-2.0
// PID 1 of the lab: sets the machine up, then runs the commands that come over the virtio-serial port and
// carries their streams and exit status. One thread, one loop; SIGCHLD comes as a descriptor.

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "boot.h"
#include "session.h"
#include "wire.h"

namespace msb::lab {
namespace {

constexpr const char* kPortName = "msb.lab";

int open_port() {
  const std::string ports = "/sys/class/virtio-ports";
  DIR* list = opendir(ports.c_str());
  while (const dirent* entry = list == nullptr ? nullptr : readdir(list)) {
    char name[32] = {};
    const int fd = open((ports + "/" + entry->d_name + "/name").c_str(), O_RDONLY | O_CLOEXEC);
    const ssize_t got = fd < 0 ? -1 : read(fd, name, sizeof name - 1);
    if (fd >= 0) close(fd);
    if (got > 0 && std::strncmp(name, kPortName, std::strlen(kPortName)) == 0) {
      const int port = open((std::string("/dev/") + entry->d_name).c_str(), O_RDWR | O_CLOEXEC);
      closedir(list);
      return port;
    }
  }
  if (list != nullptr) closedir(list);
  errno = ENODEV;
  return -1;
}

class Agent {
 public:
  explicit Agent(int port) : port_(port) {}
  // Serves until the server is gone.
  void run();

 private:
  bool read_port();
  void handle(Kind kind, std::uint32_t number, std::string_view payload);
  void start(std::uint32_t number, std::string_view payload);
  void reap();
  void finish_sessions();

  Port port_;
  std::string input_;
  std::map<std::uint32_t, std::unique_ptr<Session>> sessions_;
};

void Agent::run() {
  sigset_t child;
  sigemptyset(&child);
  sigaddset(&child, SIGCHLD);
  sigprocmask(SIG_BLOCK, &child, nullptr);
  signal(SIGPIPE, SIG_IGN);
  const int signals = signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK);
  if (signals < 0) die("make a signal descriptor");
  port_.send(Kind::kHello, 0, "");
  std::vector<pollfd> list;
  std::vector<Session*> order;
  while (true) {
    list.assign({{port_.fd(), POLLIN, 0}, {signals, POLLIN, 0}});
    order.clear();
    bool lingering = false;
    for (const auto& [number, session] : sessions_) {
      session->add_poll(list);
      order.push_back(session.get());
      lingering = lingering || session->ended();
    }
    if (poll(list.data(), list.size(), lingering ? 200 : -1) < 0 && errno != EINTR) die("poll");
    for (std::size_t i = 0; i < order.size(); ++i) order[i]->take_events({list.data() + 2 + 3 * i, 3});
    if (list[1].revents != 0) {
      signalfd_siginfo info;
      while (read(signals, &info, sizeof info) > 0) {
      }
      reap();
    }
    if (list[0].revents != 0 && !read_port()) return;
    finish_sessions();
  }
}

bool Agent::read_port() {
  static char buffer[64 << 10];
  const ssize_t got = read(port_.fd(), buffer, sizeof buffer);
  if (got < 0) return errno == EINTR || errno == EAGAIN;
  if (got == 0) return false;
  input_.append(buffer, static_cast<std::size_t>(got));
  std::size_t position = 0;
  while (input_.size() - position >= sizeof(Header)) {
    Header header;
    std::memcpy(&header, input_.data() + position, sizeof header);
    if (header.length > kMaxPayload) return false;
    if (input_.size() - position - sizeof header < header.length) break;
    handle(Kind{header.kind}, header.session, {input_.data() + position + sizeof header, header.length});
    position += sizeof header + header.length;
  }
  input_.erase(0, position);
  return true;
}

void Agent::start(std::uint32_t number, std::string_view payload) {
  Request request;
  std::string trouble = "a START frame that is none";
  auto session = std::make_unique<Session>(port_, number);
  if (Request::parse(payload, request)) trouble = session->start(request);
  if (!trouble.empty()) {
    port_.send(Kind::kError, number, "cannot start the command: " + trouble);
    return;
  }
  sessions_[number] = std::move(session);
}

void Agent::handle(Kind kind, std::uint32_t number, std::string_view payload) {
  if (kind == Kind::kStart) return start(number, payload);
  const auto found = sessions_.find(number);
  if (found == sessions_.end()) return;  // it ended meanwhile
  Session& session = *found->second;
  std::uint32_t numbers[2] = {};
  std::uint16_t size[2] = {};
  if (kind == Kind::kStdin) {
    session.on_stdin(payload);
  } else if (kind == Kind::kAck && payload.size() == sizeof numbers) {
    std::memcpy(numbers, payload.data(), sizeof numbers);
    session.on_ack(Kind{numbers[0]}, numbers[1]);
  } else if (kind == Kind::kClose && payload.size() == sizeof numbers[0]) {
    std::memcpy(numbers, payload.data(), sizeof numbers[0]);
    session.on_close(Kind{numbers[0]});
  } else if (kind == Kind::kSignal && payload.size() == sizeof numbers[0]) {
    std::memcpy(numbers, payload.data(), sizeof numbers[0]);
    session.on_signal(static_cast<int>(numbers[0]));
  } else if (kind == Kind::kResize && payload.size() == sizeof size) {
    std::memcpy(size, payload.data(), sizeof size);
    session.on_resize(size[0], size[1]);
  } else if (kind == Kind::kKill) {
    session.kill_all();
  }
}

void Agent::reap() {
  int status = 0;
  pid_t pid;
  while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
    for (const auto& [number, session] : sessions_)
      if (session->pid() == pid) session->on_exited(status);
  }
}

void Agent::finish_sessions() {
  const std::int64_t now = now_ms();
  for (auto each = sessions_.begin(); each != sessions_.end();) {
    if (!each->second->finished(now)) {
      ++each;
      continue;
    }
    const std::uint32_t number = each->first;
    const std::int32_t status = each->second->status();
    each = sessions_.erase(each);  // writes back what is still unwritten of --out
    port_.send(Kind::kExit, number, {reinterpret_cast<const char*>(&status), sizeof status});
  }
}

}  // namespace
}  // namespace msb::lab

int main() {
  // The kernel may have had no console device to open: descriptors 0 to 2 are made good first.
  mkdir("/dev", 0755);
  mount("dev", "/dev", "devtmpfs", 0, "mode=755");
  const int console = open("/dev/console", O_RDWR);
  for (int fd = 0; fd < 3; ++fd) dup2(console, fd);
  if (console > 2) close(console);

  msb::lab::boot();
  const int port = msb::lab::open_port();
  if (port < 0) msb::lab::die("open the virtio-serial port");
  msb::lab::Agent(port).run();
  sync();
  msb::lab::write_file("/proc/sysrq-trigger", "o");
  pause();
}
