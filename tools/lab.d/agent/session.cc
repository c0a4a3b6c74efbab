// SPDX-License-Identifier: Apache-2.0
// See session.h.
//
// A command runs in its own session and its own cgroup. When its first process ends, or its client goes, what
// is left of the cgroup is killed: so its pipes reach their end, and nothing of one command is there for the
// next.

#include "session.h"

#include <dirent.h>
#include <fcntl.h>
#include <pty.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>

#include "boot.h"

namespace msb::lab {
namespace {

// How long the streams of an ended command may stay open without a byte: only a process that left the cgroup
// holds them.
constexpr std::int64_t kLingerMs = 5000;
constexpr int kPipeBytes = 256 << 10;

void close_fd(int& fd) {
  if (fd >= 0) close(fd);
  fd = -1;
}

void set_nonblocking(int fd) { fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK); }

// A cgroup and all below it, the deepest first.
void list_cgroups(const std::string& path, std::vector<std::string>& list) {
  if (DIR* directory = opendir(path.c_str())) {
    while (const dirent* entry = readdir(directory))
      if (entry->d_type == DT_DIR && entry->d_name[0] != '.') list_cgroups(path + "/" + entry->d_name, list);
    closedir(directory);
  }
  list.push_back(path);
}

std::vector<char*> pointers_to(const std::vector<std::string>& strings) {
  std::vector<char*> pointers;
  for (const std::string& each : strings) pointers.push_back(const_cast<char*>(each.c_str()));
  pointers.push_back(nullptr);
  return pointers;
}

}  // namespace

std::int64_t now_ms() {
  timespec now = {};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return std::int64_t{now.tv_sec} * 1000 + now.tv_nsec / 1000000;
}

void Port::send(Kind kind, std::uint32_t session, std::string_view payload) {
  const Header header = {static_cast<std::uint32_t>(kind), session,
                         static_cast<std::uint32_t>(payload.size())};
  frame_.assign(reinterpret_cast<const char*>(&header), sizeof header);
  frame_.append(payload);
  for (std::size_t done = 0; done < frame_.size();) {
    const ssize_t sent = write(fd_, frame_.data() + done, frame_.size() - done);
    if (sent < 0 && errno != EINTR) die("write to the port");
    if (sent > 0) done += static_cast<std::size_t>(sent);
  }
}

bool Request::parse(std::string_view payload, Request& request) {
  if (payload.size() < sizeof request.header) return false;
  std::memcpy(&request.header, payload.data(), sizeof request.header);
  payload.remove_prefix(sizeof request.header);
  std::vector<std::string> strings;
  while (!payload.empty()) {
    const std::size_t end = payload.find('\0');
    if (end == std::string_view::npos) return false;
    strings.emplace_back(payload.substr(0, end));
    payload.remove_prefix(end + 1);
  }
  const std::size_t argc = request.header.argc;
  const std::size_t envc = request.header.envc;
  const std::size_t ramc = request.header.ramc;
  if (argc < 1 || argc > strings.size() || envc > strings.size() - argc ||
      ramc > strings.size() - argc - envc || strings.size() - argc - envc - ramc != 2)
    return false;
  const auto env = strings.begin() + static_cast<std::ptrdiff_t>(argc);
  const auto ram = env + static_cast<std::ptrdiff_t>(envc);
  request.argv.assign(strings.begin(), env);
  request.env.assign(env, ram);
  request.ram.assign(ram, strings.end() - 2);
  request.directory = strings[strings.size() - 2];
  request.out = strings[strings.size() - 1];
  return true;
}

Session::Session(Port& port, std::uint32_t number)
    : port_(port), number_(number), cgroup_("/sys/fs/cgroup/lab-" + std::to_string(number)) {}

Session::~Session() {
  for (Output& output : outputs_) close_fd(output.fd);
  close_fd(stdin_);
  std::vector<std::string> cgroups;
  list_cgroups(cgroup_, cgroups);
  for (const std::string& path : cgroups) rmdir(path.c_str());
  if (writes_out_) sync();
}

std::string Session::start(const Request& request) {
  if ((request.header.flags & kFlagFresh) != 0) write_file("/proc/sys/vm/drop_caches", "3");
  if (!request.out.empty()) {
    if (!mount_out(request.out)) return "mount " + request.out + ": " + std::strerror(errno);
    writes_out_ = true;
  }
  reveal(request.directory);
  for (const std::string& path : request.ram) hold_in_memory(path);
  mkdir(cgroup_.c_str(), 0755);
  tty_ = (request.header.flags & kFlagTty) != 0;
  int child[3] = {-1, -1, -1};
  if (tty_) {
    const winsize size = {request.header.rows, request.header.columns, 0, 0};
    int terminal = -1;
    if (openpty(&outputs_[0].fd, &terminal, nullptr, nullptr, &size) != 0)
      return std::string("open a terminal: ") + std::strerror(errno);
    fcntl(outputs_[0].fd, F_SETFD, FD_CLOEXEC);
    stdin_ = fcntl(outputs_[0].fd, F_DUPFD_CLOEXEC, 0);
    child[0] = terminal;
    child[1] = fcntl(terminal, F_DUPFD_CLOEXEC, 0);
    child[2] = fcntl(terminal, F_DUPFD_CLOEXEC, 0);
    fcntl(terminal, F_SETFD, FD_CLOEXEC);
  } else {
    for (std::size_t i = 0; i < 2; ++i) {
      int ends[2];
      if (pipe2(ends, O_CLOEXEC) != 0) return std::string("make a pipe: ") + std::strerror(errno);
      fcntl(ends[0], F_SETPIPE_SZ, kPipeBytes);
      outputs_[i].fd = ends[0];
      child[i + 1] = ends[1];
    }
    if ((request.header.flags & kFlagStdin) != 0) {
      int ends[2];
      if (pipe2(ends, O_CLOEXEC) != 0) return std::string("make a pipe: ") + std::strerror(errno);
      child[0] = ends[0];
      stdin_ = ends[1];
    } else {
      child[0] = open("/dev/null", O_RDONLY | O_CLOEXEC);
    }
  }
  pid_ = fork();
  if (pid_ == 0) become(request, child);
  const int saved = errno;
  for (int& fd : child) close_fd(fd);
  if (pid_ < 0) return std::string("fork: ") + std::strerror(saved);
  for (const Output& output : outputs_)
    if (output.fd >= 0) set_nonblocking(output.fd);
  if (stdin_ >= 0) set_nonblocking(stdin_);
  return "";
}

// In the new process: turns into the command.
void Session::become(const Request& request, const int (&child)[3]) {
  write_file(cgroup_ + "/cgroup.procs", "0");
  setsid();
  // The originals are above 2: the agent's own 0 to 2 are the console.
  for (int target = 0; target < 3; ++target) dup2(child[target], target);
  if (tty_) ioctl(0, TIOCSCTTY, 0);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  signal(SIGPIPE, SIG_DFL);
  umask(request.header.umask & 0777);
  const char* program = request.argv[0].c_str();
  int code = 126;
  if (chdir(request.directory.c_str()) != 0) {
    std::fprintf(stderr, "lab: enter %s: %s\n", request.directory.c_str(), std::strerror(errno));
  } else {
    std::vector<char*> argv = pointers_to(request.argv);
    std::vector<char*> env = pointers_to(request.env);
    environ = env.data();
    execvp(program, argv.data());
    if (errno == ENOENT) code = 127;
    std::fprintf(stderr, "lab: run %s: %s\n", program, std::strerror(errno));
  }
  std::fflush(stderr);
  _exit(code);
}

void Session::add_poll(std::vector<pollfd>& list) const {
  // poll() ignores entries with a negative descriptor.
  for (const Output& output : outputs_) list.push_back({output.credit > 0 ? output.fd : -1, POLLIN, 0});
  list.push_back({stdin_data_.empty() ? -1 : stdin_, POLLOUT, 0});
}

void Session::take_events(std::span<const pollfd> list) {
  for (std::size_t i = 0; i < 2; ++i)
    if (list[i].revents != 0) pump(outputs_[i]);
  if (list[2].revents != 0) flush_stdin();
}

void Session::pump(Output& output) {
  static char buffer[kChunk];
  const ssize_t got =
      read(output.fd, buffer, static_cast<std::size_t>(std::min<std::uint64_t>(kChunk, output.credit)));
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (got <= 0) {  // the end; a terminal says EIO
    close_fd(output.fd);
    return;
  }
  if (ended_) linger_until_ms_ = now_ms() + kLingerMs;
  output.credit -= static_cast<std::uint64_t>(got);
  port_.send(output.kind, number_, {buffer, static_cast<std::size_t>(got)});
}

void Session::on_stdin(std::string_view data) {
  if (data.empty()) stdin_ended_ = true;
  stdin_data_.append(data);
  flush_stdin();
}

void Session::flush_stdin() {
  std::size_t done = 0;
  if (stdin_ < 0) {
    done = stdin_data_.size();
  } else if (!stdin_data_.empty()) {
    const ssize_t wrote = write(stdin_, stdin_data_.data(), stdin_data_.size());
    if (wrote > 0) {
      done = static_cast<std::size_t>(wrote);
    } else if (errno != EAGAIN &&
               errno != EINTR) {  // nobody reads: what comes is dropped, as into a broken pipe
      close_fd(stdin_);
      done = stdin_data_.size();
    }
  }
  if (done > 0) {
    stdin_data_.erase(0, done);
    const std::uint32_t ack[2] = {static_cast<std::uint32_t>(Kind::kStdin), static_cast<std::uint32_t>(done)};
    port_.send(Kind::kAck, number_, {reinterpret_cast<const char*>(ack), sizeof ack});
  }
  if (stdin_ended_ && stdin_data_.empty() && !tty_) close_fd(stdin_);
}

void Session::on_ack(Kind stream, std::uint32_t bytes) {
  for (Output& output : outputs_)
    if (output.kind == stream) output.credit += bytes;
}

void Session::on_close(Kind stream) {
  for (Output& output : outputs_)
    if (output.kind == stream) close_fd(output.fd);
}

void Session::on_signal(int number) {
  if (pid_ > 0 && !ended_) kill(-pid_, number);
}

void Session::on_resize(std::uint16_t rows, std::uint16_t columns) {
  const winsize size = {rows, columns, 0, 0};
  if (tty_ && outputs_[0].fd >= 0) ioctl(outputs_[0].fd, TIOCSWINSZ, &size);
}

void Session::kill_cgroup() { write_file(cgroup_ + "/cgroup.kill", "1"); }

void Session::kill_all() {
  kill_cgroup();
  for (Output& output : outputs_)
    output.credit = std::uint64_t{1} << 62;  // nobody acknowledges: let the rest run out
}

void Session::on_exited(int wait_status) {
  status_ = WIFSIGNALED(wait_status) ? 128 + WTERMSIG(wait_status) : WEXITSTATUS(wait_status);
  ended_ = true;
  kill_cgroup();
  linger_until_ms_ = now_ms() + kLingerMs;
}

bool Session::finished(std::int64_t now) const {
  if (!ended_) return false;
  bool open = false;
  for (const Output& output : outputs_) {
    if (output.fd < 0) continue;
    if (output.credit == 0) return false;  // the client is slow
    open = true;
  }
  return !open || now >= linger_until_ms_;
}

}  // namespace msb::lab
