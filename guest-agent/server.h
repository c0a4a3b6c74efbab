// SPDX-License-Identifier: Apache-2.0
// The agent's server: accepts clients, keeps sessions, reaps children, speaks with the host on the control
// channel. Knows nothing of how the guest was set up, so it runs on any Linux in tests.
//
// Threads. All state belongs to the event loop's thread. Workers start programs and do file operations; they
// get everything by value and answer through EventLoop::post.
//
// Reaping. As PID 1 every orphan is ours, and only waitid tells children from orphans. A session's pid is
// known from before its process runs: spawn() has the kernel write it into a slot that the reaper looks at,
// so that a process which ends before its session is registered is not taken for an orphan.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <unordered_map>
#include <vector>

#include "base/event_loop.h"
#include "base/unique_fd.h"
#include "guest-agent/session.h"
#include "guest-agent/workers.h"
#include "proto/agent.h"
#include "proto/guest_config.h"

namespace msb::agent {

class Client;
class Control;

inline constexpr std::string_view kAgentName = "msb-agent 0.1.0";

class Server final : public SessionOwner {
 public:
  struct Options {
    proto::GuestConfig defaults;
    bool change_user = true;   // false in tests without root: sessions keep the server's ids
    int sessions_cgroup = -1;  // directory descriptor of the cgroup that sessions start in, borrowed
    int init_stop_signal = 0;  // what asks the image's own init, as process 1, to end; 0: there is none
    // Called on the loop when the host or a power signal asked for the end and all sessions have ended; the
    // rest (unmounting, power off) is not the server's. The grace period ends at `deadline`.
    std::function<void(Instant deadline)> on_shutdown;
  };
  Server(EventLoop& loop, Options options);
  ~Server() override;
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  // Accepts clients from a listening stream socket; vsock peers other than the host are refused.
  [[nodiscard]] Status listen(UniqueFd listener);
  // Uses a connected socket as the control channel and announces readiness on it.
  [[nodiscard]] Status start_control(UniqueFd socket, const proto::Ready& ready);
  // Starts hearing of ended children. SIGCHLD and the power signals must be blocked in every thread already.
  [[nodiscard]] Status watch_signals();

  // Asks every session to end, kills what is left after the grace period, then calls on_shutdown.
  void begin_shutdown(const proto::Shutdown& request);
  // Sends SHUTDOWN_DONE and waits (at most a second) until the host has it.
  void report_shutdown_done();

  // For Client and Control.
  void start_exec(Client& client, proto::ExecRequest request);
  [[nodiscard]] Session* find_session(std::uint64_t id);
  [[nodiscard]] proto::SessionList list_sessions() const;
  [[nodiscard]] proto::GuestInfo info() const;
  void count_operation() { ++operations_; }
  [[nodiscard]] Workers& workers() { return workers_; }
  [[nodiscard]] const Options& options() const { return options_; }
  [[nodiscard]] bool stopping() const { return stopping_; }
  // The client is done: destroys it once the loop is out of it.
  void retire(Client& client);
  void report_oom_kills(std::uint64_t count);

  void session_log(const Session& session, proto::LogStream stream, ByteView data) override;
  void session_ended(Session& session) override;
  void session_quiet(Session& session) override;

 private:
  struct SpawnJob;

  void on_accept();
  void on_signal();
  void reap();
  void on_spawned(const std::shared_ptr<SpawnJob>& job);
  void forget(std::uint64_t session_id);
  void trim_ended();
  [[nodiscard]] std::size_t running_sessions() const;
  void continue_shutdown();

  EventLoop& loop_;
  Options options_;
  UniqueFd listener_;
  EventLoop::IoToken listener_token_;
  UniqueFd signals_;
  EventLoop::IoToken signals_token_;
  std::unordered_map<Client*, std::unique_ptr<Client>> clients_;
  std::unordered_map<std::uint64_t, std::unique_ptr<Session>> sessions_;
  std::unordered_map<pid_t, Session*> by_pid_;  // running ones
  std::vector<std::shared_ptr<SpawnJob>> spawning_;
  std::unique_ptr<Control> control_;
  std::uint64_t next_session_ = 1;
  std::uint64_t operations_ = 0;
  std::uint64_t oom_kills_ = 0;
  bool stopping_ = false;
  bool given_up_ = false;
  Instant stop_deadline_;
  bool told_ = false;
  EventLoop::TimerToken grace_timer_ = 0;
  Workers workers_;  // last: its threads use the loop only, but end first
};

}  // namespace msb::agent
