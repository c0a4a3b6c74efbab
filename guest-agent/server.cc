// SPDX-License-Identifier: Apache-2.0
#include "guest-agent/server.h"

#include <fcntl.h>
#include <linux/vm_sockets.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "guest-agent/client.h"
#include "guest-agent/control.h"
#include "guest-agent/guest_info.h"
#include "guest-agent/spawn.h"

namespace msb::agent {
namespace {

constexpr std::size_t kMaxClients = 4096;
constexpr std::size_t kMaxSessions = 4096;
constexpr std::size_t kMaxWorkers = 512;
// Ended sessions that still hold something: output to fetch, or a pipe of a background process to empty.
constexpr std::size_t kMaxEnded = 256;
constexpr int kAcceptsPerRound = 16;
constexpr int kReapsPerRound = 256;
constexpr std::chrono::milliseconds kAfterKill{500};

// Only the host may talk to us: any process in the guest could connect to the port through the loopback
// transport.
bool is_allowed_peer(int socket) {
  sockaddr_storage address{};
  socklen_t length = sizeof address;
  if (::getpeername(socket, reinterpret_cast<sockaddr*>(&address), &length) != 0) return false;
  if (address.ss_family != AF_VSOCK) return true;  // a listener that a test made
  sockaddr_vm vm{};
  static_assert(sizeof vm <= sizeof address);
  __builtin_memcpy(&vm, &address, sizeof vm);
  return vm.svm_cid == VMADDR_CID_HOST;
}

struct ChildEnds {
  UniqueFd in;
  UniqueFd out;
  UniqueFd err;
};

struct Plumbing {
  SessionStreams ours;
  ChildEnds theirs;
};

Result<std::pair<UniqueFd, UniqueFd>> make_pipe() {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return sys_error("make a pipe");
  return std::pair<UniqueFd, UniqueFd>(UniqueFd(ends[0]), UniqueFd(ends[1]));
}

Result<Plumbing> make_pipes(bool with_input) {
  Plumbing plumbing;
  MSB_ASSIGN(auto out, make_pipe());
  MSB_ASSIGN(auto err, make_pipe());
  plumbing.ours.out = std::move(out.first);
  plumbing.theirs.out = std::move(out.second);
  plumbing.ours.err = std::move(err.first);
  plumbing.theirs.err = std::move(err.second);
  if (with_input) {
    MSB_ASSIGN(auto in, make_pipe());
    plumbing.theirs.in = std::move(in.first);
    plumbing.ours.in = std::move(in.second);
  }
  return plumbing;
}

// The master twice (reading and writing are watched apart) and the terminal itself for the child.
Result<Plumbing> make_terminal(const proto::TtySize& size, uid_t owner, bool change_owner) {
  Plumbing plumbing;
  plumbing.ours.out.reset(::open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC));
  if (!plumbing.ours.out) return sys_error("open /dev/ptmx");
  const int master = plumbing.ours.out.get();
  int unlock = 0;
  if (::ioctl(master, TIOCSPTLCK, &unlock) != 0) return sys_error("unlock the terminal");
  plumbing.theirs.in.reset(::ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC));
  if (!plumbing.theirs.in) return sys_error("open the terminal");
  winsize window{};
  window.ws_row = size.rows;
  window.ws_col = size.cols;
  ::ioctl(master, TIOCSWINSZ, &window);
  if (change_owner && ::fchown(plumbing.theirs.in.get(), owner, static_cast<gid_t>(-1)) != 0) {
    return sys_error("give the terminal to the user");
  }
  plumbing.ours.in.reset(::fcntl(master, F_DUPFD_CLOEXEC, 3));
  if (!plumbing.ours.in) return sys_error("duplicate the terminal");
  return plumbing;
}

}  // namespace

// What a worker and the loop share while a program is being started. The worker owns everything but child_pid
// and reaped_status until it posts the job back.
struct Server::SpawnJob {
  proto::ExecRequest request;
  Client* client = nullptr;  // loop only; null once the client is gone
  SessionStreams streams;
  SpawnOutcome outcome;
  proto::ErrorReply error;
  std::atomic<pid_t> child_pid{0};
  std::optional<int> reaped_status;  // loop only

  void run(const Options& options);
};

void Server::SpawnJob::run(const Options& options) {
  PlanResult planned = make_plan(request, options.defaults);
  if (!planned.error.code.empty()) {
    error = std::move(planned.error);
    return;
  }
  SpawnPlan& plan = planned.plan;
  plan.change_user = options.change_user;
  plan.cgroup_fd = options.sessions_cgroup;
  auto plumbing = request.tty ? make_terminal(request.tty->size, plan.identity.uid, options.change_user)
                              : make_pipes(request.stdin_open);
  if (!plumbing.ok()) {
    const Error& failed = plumbing.error();
    error = {failed.sys_errno == ENOMEM ? "no_memory" : "limit", failed.sys_errno, "stdio", failed.text};
    return;
  }
  plan.stdio[0] = plumbing->theirs.in.get();
  plan.stdio[1] = request.tty ? plumbing->theirs.in.get() : plumbing->theirs.out.get();
  plan.stdio[2] = request.tty ? plumbing->theirs.in.get() : plumbing->theirs.err.get();
  outcome = run_plan(plan, child_pid);
  if (!outcome.ok) error = spawn_error(outcome.failure, request.argv.front(), plan.cwd);
  streams = std::move(plumbing->ours);
}

Server::Server(EventLoop& loop, Options options)
    : loop_(loop), options_(std::move(options)), workers_(kMaxWorkers) {}

Server::~Server() {
  loop_.remove(listener_token_);
  loop_.remove(signals_token_);
}

Status Server::listen(UniqueFd listener) {
  listener_ = std::move(listener);
  MSB_ASSIGN(listener_token_, loop_.add(listener_.get(), EPOLLIN, [this](std::uint32_t) { on_accept(); }));
  return {};
}

void Server::on_accept() {
  for (int round = 0; round < kAcceptsPerRound; ++round) {
    UniqueFd socket(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!socket) return;
    if (stopping_ || clients_.size() >= kMaxClients || !is_allowed_peer(socket.get())) continue;
    auto client = std::make_unique<Client>(loop_, *this, std::move(socket));
    if (client->start().ok()) clients_.emplace(client.get(), std::move(client));
  }
}

void Server::retire(Client& client) {
  for (const auto& job : spawning_) {
    if (job->client == &client) job->client = nullptr;
  }
  loop_.post([this, key = &client] { clients_.erase(key); });
}

Status Server::start_control(UniqueFd socket, const proto::Ready& ready) {
  control_ = std::make_unique<Control>(loop_, *this, std::move(socket));
  return control_->start(ready);
}

Status Server::watch_signals() {
  sigset_t mask;
  ::sigemptyset(&mask);
  for (const int number : {SIGCHLD, SIGTERM, SIGUSR1, SIGUSR2, SIGPWR}) ::sigaddset(&mask, number);
  signals_.reset(::signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!signals_) return sys_error("create signalfd");
  MSB_ASSIGN(signals_token_, loop_.add(signals_.get(), EPOLLIN, [this](std::uint32_t) { on_signal(); }));
  return {};
}

void Server::on_signal() {
  signalfd_siginfo info{};
  while (::read(signals_.get(), &info, sizeof info) == ssize_t{sizeof info}) {
    // What `halt` and `poweroff` of small init systems send to PID 1.
    if (info.ssi_signo != SIGCHLD && ::getpid() == 1) begin_shutdown({});
  }
  reap();
}

void Server::reap() {
  for (int round = 0; round < kReapsPerRound; ++round) {
    int status = 0;
    const pid_t pid = ::waitpid(-1, &status, WNOHANG);
    if (pid <= 0) return;
    if (const auto found = by_pid_.find(pid); found != by_pid_.end()) {
      Session* session = found->second;
      by_pid_.erase(found);
      session->on_reaped(status);
      continue;
    }
    for (const auto& job : spawning_) {
      // Once only: the pid may be another's by the time the job comes back.
      if (!job->reaped_status && job->child_pid.load(std::memory_order_acquire) == pid)
        job->reaped_status = status;
    }
  }
  loop_.post([this] { reap(); });  // more may wait; the other clients first
}

void Server::start_exec(Client& client, proto::ExecRequest request) {
  if (stopping_) {
    client.fail({"other", 0, "exec", "the sandbox is stopping"});
    return;
  }
  if (by_pid_.size() + spawning_.size() >= kMaxSessions) {
    client.fail({"limit", 0, "exec", "too many sessions"});
    return;
  }
  auto job = std::make_shared<SpawnJob>();
  job->request = std::move(request);
  job->client = &client;
  spawning_.push_back(job);
  const bool submitted = workers_.submit([this, job] {
    job->run(options_);
    loop_.post([this, job] { on_spawned(job); });
  });
  if (submitted) return;
  std::erase(spawning_, job);
  client.fail({"limit", 0, "exec", "too many programs are being started at once"});
}

void Server::on_spawned(const std::shared_ptr<SpawnJob>& job) {
  std::erase(spawning_, job);
  Client* client = job->client;
  if (!job->error.code.empty()) {
    if (client != nullptr) client->fail(job->error);
    return;
  }
  const std::uint64_t id = next_session_++;
  auto owned = std::make_unique<Session>(loop_, *this, id, job->request);
  Session& session = *owned;
  sessions_.emplace(id, std::move(owned));
  if (const Status status = session.start(job->outcome.pid, std::move(job->streams)); !status.ok()) {
    ::kill(-job->outcome.pid, SIGKILL);
    sessions_.erase(id);
    if (client != nullptr) client->fail({"other", 0, "stdio", "watch the streams of the program"});
    return;
  }
  if (!job->reaped_status) by_pid_.emplace(job->outcome.pid, &session);
  if (session.logged() && control_) {
    control_->event({proto::ControlEvent::Kind::kSessionStarted, 0, id, session.name(), std::nullopt});
  }
  if (client != nullptr) {
    client->on_started(session);
  } else if (!session.detachable()) {
    session.kill_abandoned();
  }
  if (stopping_) (void)session.signal(SIGKILL);
  if (job->reaped_status) session.on_reaped(*job->reaped_status);
}

Session* Server::find_session(std::uint64_t id) {
  const auto found = sessions_.find(id);
  return found == sessions_.end() ? nullptr : found->second.get();
}

proto::SessionList Server::list_sessions() const {
  // A frame holds 256 KiB; an entry at most about 10 KiB, usually a few hundred bytes.
  constexpr std::size_t kMaxListBytes = std::size_t{200} << 10;
  proto::SessionList list;
  std::size_t bytes = 0;
  std::vector<std::uint64_t> ids;
  for (const auto& [id, session] : sessions_) {
    if (!session->ended() || session->detachable()) ids.push_back(id);
  }
  std::sort(ids.begin(), ids.end());
  for (const std::uint64_t id : ids) {
    proto::SessionInfo info = sessions_.at(id)->info();
    bytes += proto::to_json(info).size() + 1;
    if (bytes > kMaxListBytes) {
      list.truncated = true;
      break;
    }
    list.sessions.push_back(std::move(info));
  }
  return list;
}

proto::GuestInfo Server::info() const {
  proto::GuestInfo info = read_guest_info(options_.defaults.net ? options_.defaults.net->interface : "");
  info.sessions = running_sessions();
  info.operations = operations_;
  info.oom_kills = oom_kills_;
  return info;
}

std::size_t Server::running_sessions() const { return by_pid_.size() + spawning_.size(); }

void Server::session_log(const Session& session, proto::LogStream stream, ByteView data) {
  if (control_) control_->log(session.id(), stream, data);
}

void Server::session_ended(Session& session) {
  if (session.logged() && control_) {
    control_->event(
        {proto::ControlEvent::Kind::kSessionExited, 0, session.id(), session.name(), session.exit()});
    control_->forget_session(session.id());
  }
  trim_ended();
  if (stopping_) loop_.post([this] { continue_shutdown(); });
}

void Server::session_quiet(Session& session) {
  // A detachable session stays until someone fetches its end, or newer ones push it out.
  if (!session.detachable()) forget(session.id());
}

void Server::forget(std::uint64_t session_id) {
  loop_.post([this, session_id] { sessions_.erase(session_id); });
}

void Server::trim_ended() {
  std::vector<std::uint64_t> ended;
  for (const auto& [id, session] : sessions_) {
    if (session->ended()) ended.push_back(id);
  }
  if (ended.size() <= kMaxEnded) return;
  std::sort(ended.begin(), ended.end());
  for (std::size_t i = 0; i < ended.size() - kMaxEnded; ++i) forget(ended[i]);
}

void Server::report_oom_kills(std::uint64_t count) {
  if (count <= oom_kills_) return;
  oom_kills_ = count;
  if (control_) control_->event({proto::ControlEvent::Kind::kOom, count, 0, "", std::nullopt});
}

void Server::begin_shutdown(const proto::Shutdown& request) {
  if (stopping_) return;
  stopping_ = true;
  stop_deadline_ = loop_.now() + std::chrono::milliseconds(request.grace_ms);
  if (options_.init_stop_signal != 0) ::kill(1, options_.init_stop_signal);
  const int number = request.signal != 0
                         ? request.signal
                         : proto::signal_number(options_.defaults.stop_signal).value_or(SIGTERM);
  for (const auto& [pid, session] : by_pid_) {
    (void)session->signal(number);
    (void)session->signal(SIGCONT);  // a stopped process would sleep through its grace period
  }
  grace_timer_ = loop_.add_timer_after(std::chrono::milliseconds(request.grace_ms), [this] {
    for (const auto& [pid, session] : by_pid_) (void)session->signal(SIGKILL);
    // Only what sleeps in the kernel survives that; it is not waited for.
    grace_timer_ = loop_.add_timer_after(kAfterKill, [this] {
      given_up_ = true;
      continue_shutdown();
    });
  });
  continue_shutdown();
}

void Server::continue_shutdown() {
  if (told_ || (!given_up_ && running_sessions() != 0)) return;
  told_ = true;
  loop_.cancel_timer(grace_timer_);
  if (options_.on_shutdown) options_.on_shutdown(stop_deadline_);
}

void Server::report_shutdown_done() {
  if (control_) control_->shutdown_done();
}

}  // namespace msb::agent
