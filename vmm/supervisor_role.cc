// SPDX-License-Identifier: Apache-2.0
#include "vmm/supervisor_role.h"

#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

#include "base/file.h"
#include "base/log.h"
#include "base/socket.h"
#include "base/subprocess.h"
#include "proto/agent.h"
#include "proto/control.h"
#include "vmm/control_server.h"
#include "vmm/ending.h"
#include "vmm/exec_log.h"
#include "vmm/exit_codes.h"
#include "vmm/frame_stream.h"
#include "vmm/helpers.h"
#include "vmm/host_sockets.h"
#include "vmm/idle_timer.h"
#include "vmm/machine_link.h"
#include "vmm/main_command.h"
#include "vmm/net_link.h"
#include "vmm/sandbox_files.h"

namespace msb::vmm {
namespace {

using proto::ExitReason;
using proto::FrameType;
using std::chrono::milliseconds;
using std::chrono::seconds;

// Beyond the grace period: killing, syncing, unmounting.
constexpr auto kStopSlack = seconds(20);
constexpr int kLinksPerWake = 16;
constexpr int kMachineDeathMs = 500;

class SupervisorRole final : private FrameStream::Events, private ControlServer::Handler {
 public:
  explicit SupervisorRole(proto::VmSpec spec)
      : spec_(std::move(spec)), host_sockets_(std::move(spec_.host_sockets)) {}

  int run() {
    if (auto failure = start()) {
      fail(*failure);
      return exit_code_;
    }
    const Status ran = loop_->run();
    if (!ran) MSB_ERROR("event loop: %s", ran.error().text.c_str());
    return exit_code_;
  }

 private:
  enum class State : std::uint8_t { kStarting, kRunning, kPaused, kStopping, kEnded };
  static std::string_view state_name(State state) {
    switch (state) {
      case State::kStarting:
        return "starting";
      case State::kRunning:
        return "running";
      case State::kPaused:
        return "paused";
      case State::kStopping:
        return "stopping";
      case State::kEnded:
        return "stopped";
    }
    return "stopped";
  }

  std::optional<Failure> start() {
    started_ = SteadyClock().now();
    auto files = open_sandbox(spec_);
    if (!files) return Failure{"lock", std::move(files).error()};
    files_ = std::move(files).value();
    state_file_.emplace(files_.directory.get());
    enter(State::kStarting);
    auto machine = open_machine_files(spec_, files_);
    if (!machine) return Failure{"files", std::move(machine).error()};
    auto loop = EventLoop::create();
    if (!loop) return Failure{"machine", std::move(loop).error()};
    loop_ = std::move(loop).value();
    auto log = ExecLog::open(files_.logs.get(), "exec.log", spec_.log.max_bytes, spec_.log.files);
    if (!log) return Failure{"files", std::move(log).error()};
    exec_log_.emplace(std::move(log).value());
    if (spec_.net.enabled) {
      auto net = start_net(spec_, files_.logs.get());
      if (!net) return Failure{"net", std::move(net).error()};
      net_ = std::move(net->child);
      auto audit = RotatedFile::open(files_.logs.get(), "audit.log", spec_.log.max_bytes, spec_.log.files);
      if (!audit) return Failure{"files", std::move(audit).error()};
      auto link =
          NetLink::open(*loop_, std::move(net->control), std::move(net->audit), std::move(audit).value());
      if (!link) return Failure{"net", std::move(link).error()};
      net_link_ = std::move(link).value();
      machine->net = std::move(net->device);
    }
    auto child = start_machine();
    if (!child) return Failure{"machine", std::move(child).error()};
    machine_ = std::move(child->child);
    link_ = std::move(child->link);
    const bool require = spec_.confinement == proto::VmSpec::Confinement::kRequire;
    if (auto status = send_start(link_.get(), *machine, require); !status)
      return Failure{"machine", status.error()};
    if (auto status = watch(); !status) return Failure{"machine", status.error()};
    limit_boot();
    if (auto status = confine_supervisor(require); !status) return Failure{"confinement", status.error()};
    return std::nullopt;
  }

  Status watch() {
    MSB_TRY(set_nonblocking(link_.get(), true));
    MSB_ASSIGN(link_token_, loop_->add(link_.get(), EPOLLIN, [this](std::uint32_t) { on_link(); }));
    MSB_TRY(loop_->add(machine_.pidfd(), EPOLLIN, [this](std::uint32_t) { on_machine_exit(); }));
    if (net_.pid() > 0) MSB_TRY(loop_->add(net_.pidfd(), EPOLLIN, [this](std::uint32_t) { on_net_exit(); }));
    if (spec_.leash_fd) {
      leash_ = UniqueFd(*spec_.leash_fd);
      MSB_ASSIGN(leash_token_, loop_->add(leash_.get(), EPOLLIN, [this](std::uint32_t) { on_leash(); }));
    }
    sigset_t signals;
    sigemptyset(&signals);
    for (const int number : {SIGTERM, SIGINT, SIGHUP}) sigaddset(&signals, number);
    ::sigprocmask(SIG_BLOCK, &signals, nullptr);
    ::signal(SIGPIPE, SIG_IGN);
    signals_ = UniqueFd(::signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK));
    if (!signals_) return sys_error("signalfd");
    MSB_TRY(loop_->add(signals_.get(), EPOLLIN, [this](std::uint32_t) { on_signal(); }));
    MSB_ASSIGN(control_, ControlServer::open(*loop_, std::move(files_.control_listener), *this));
    return {};
  }

  void limit_boot() {
    boot_timer_ = loop_->add_timer_after(seconds(spec_.timeouts.boot_s), [this] {
      startup_failed(
          {"boot",
           make_error(Errc::kTimeout, "the guest's agent was not ready within %llu s; see logs/console.log",
                      static_cast<unsigned long long>(spec_.timeouts.boot_s))},
          ExitReason::kAgentTimeout);
    });
  }

  // --- state -----------------------------------------------------------------------------------------------

  void enter(State state) {
    state_ = state;
    // A full disk must not end a running sandbox; the state is also told by lock and socket.
    const Status written = state_file_->write(state_name(state));
    if (!written) MSB_WARN("state.json: %s", written.error().text.c_str());
    if (control_) control_->announce(state_name(state));
  }

  void write_ready_line(const std::string& line) {
    if (!spec_.ready_fd) return;
    const UniqueFd fd(*spec_.ready_fd);
    spec_.ready_fd.reset();
    // The reader may have gone: then nobody wants to know.
    static_cast<void>(write_all(fd.get(), line + "\n").ok());
  }

  // Tells why the sandbox does not become ready; the process's exit code says it, too.
  void tell_failure(const Failure& failure) {
    exit_code_ = exit_code_for(failure.stage, failure.error.code);
    report_failure(std::exchange(spec_.ready_fd, std::nullopt), failure);
  }

  // Nothing runs yet that had to be ended.
  void fail(const Failure& failure) {
    tell_failure(failure);
    if (state_file_) write_end({ExitReason::kVmmError, failure.error.text, std::nullopt});
  }

  // What is told to whoever waits.
  std::string write_end(const Ending& ending) {
    std::string json = to_json(ending, wall_clock_ns());
    const Status written = state_file_->write_end(json);
    if (!written) MSB_ERROR("state.json: %s", written.error().text.c_str());
    return json;
  }

  // The sandbox cannot become ready.
  void startup_failed(const Failure& failure, ExitReason reason) {
    if (state_ != State::kStarting) return;
    tell_failure(failure);
    finish({reason, failure.error.text, std::nullopt});
  }

  void finish(const Ending& ending) {
    const State last = std::exchange(state_, State::kEnded);
    if (last == State::kEnded) return;
    const std::string json = write_end(ending);
    if (exit_code_ == kExitOk) {  // else it was told already, in one line
      MSB_INFO("ended: %s: %s", std::string(proto::exit_reason_name(ending.reason)).c_str(),
               quote_for_log(ending.detail).c_str());
    }
    // One that never was ready is left to its creator, who keeps its logs; if that one is gone, nobody wants
    // it.
    const bool wanted = last == State::kStarting && ending.reason != ExitReason::kOwnerGone;
    std::string hidden;
    if (spec_.ephemeral && !wanted) {
      auto renamed = hide_sandbox(spec_.dir);
      if (renamed) {
        hidden = std::move(renamed).value();
      } else {
        MSB_WARN("%s", renamed.error().text.c_str());
      }
    }
    if (control_) control_->ended(json);
    end_children();
    if (!hidden.empty()) static_cast<void>(remove_sandbox(hidden).ok());  // else a later sweep does
    loop_->stop();
  }

  void end_children() {
    for (Child* child : {&machine_, &net_}) {
      if (child->pid() > 0) static_cast<void>(child->send_signal(SIGKILL).ok());
    }
    for (Child* child : {&machine_, &net_}) {
      if (child->pid() > 0) static_cast<void>(child->wait(seconds(10)).ok());
    }
  }

  // --- stopping --------------------------------------------------------------------------------------------

  void begin_stop(Ending ending, std::optional<std::uint64_t> grace_ms = std::nullopt) {
    if (state_ == State::kEnded || state_ == State::kStopping) return;
    pending_end_ = std::move(ending);
    if (state_ == State::kStarting || !agent_) {
      write_ready_line(
          R"({"error":{"code":"cancelled","stage":"boot","text":"it was stopped before it was ready"}})");
      finish(pending_end_);
      return;
    }
    const State last = state_;
    enter(State::kStopping);
    if (last == State::kPaused) tell_machine(to_machine::Resume{});
    const std::uint64_t grace = grace_ms.value_or(spec_.timeouts.stop_grace_s * 1000);
    proto::Shutdown shutdown;
    shutdown.grace_ms = grace;
    agent_->send(FrameType::kShutdown, proto::to_json(shutdown));
    loop_->add_timer_after(milliseconds(grace) + kStopSlack, [this] {
      pending_end_.detail += " (the guest did not answer in time and was ended)";
      finish(pending_end_);
    });
  }

  // --- the machine role ------------------------------------------------------------------------------------

  void tell_machine(const to_machine::Message& message) {
    if (auto status = send(link_.get(), message); !status)
      MSB_WARN("machine role: %s", status.error().text.c_str());
  }

  void on_link() {
    for (int n = 0; n < kLinksPerWake && state_ != State::kEnded; ++n) {
      auto message = receive_from_machine(link_.get());
      if (!message) {
        if (message.error().sys_errno == EAGAIN) return;
        // Nothing more can come of it: a machine role that lives on without its link is ended. The pidfd
        // tells.
        link_error_ = message.error();
        loop_->remove(link_token_);
        static_cast<void>(machine_.send_signal(SIGKILL).ok());
        return;
      }
      on_machine_message(*message);
    }
  }

  void on_machine_message(from_machine::Message& message) {
    if (auto* running = std::get_if<from_machine::Running>(&message)) {
      confinement_ = running->confinement;
      machine_ran_ = SteadyClock().now();
    } else if (auto* failed = std::get_if<from_machine::Failed>(&message)) {
      startup_failed({failed->stage, Error{errc_from_name(failed->code), 0, failed->text}},
                     ExitReason::kVmmError);
    } else if (auto* connect = std::get_if<from_machine::Connect>(&message)) {
      on_connect(*connect);
    } else if (std::holds_alternative<from_machine::Paused>(message)) {
      if (state_ == State::kRunning) enter(State::kPaused);
      control_->pause_done();
    } else if (std::holds_alternative<from_machine::Resumed>(message)) {
      if (state_ == State::kPaused) enter(State::kRunning);
      if (agent_) agent_->send(FrameType::kClock, proto::to_json(proto::ClockMessage{wall_clock_ns()}));
      control_->pause_done();
    } else if (auto* ended = std::get_if<from_machine::Ended>(&message)) {
      on_guest_ended(ended->reason, ended->detail);
    }
  }

  void on_guest_ended(ExitReason reason, const std::string& detail) {
    if (state_ == State::kStarting) {
      startup_failed(
          {"boot",
           make_error(Errc::kUnavailable, "the guest ended (%s) before its agent was ready: %s",
                      std::string(proto::exit_reason_name(reason)).c_str(), quote_for_log(detail).c_str())},
          reason);
      return;
    }
    // A guest that was asked to end and ends is not an accident, however it does so.
    finish(state_ == State::kStopping ? pending_end_ : Ending{reason, detail, std::nullopt});
  }

  void on_machine_exit() {
    if (!link_error_) on_link();  // its last words may still lie in the socket
    if (state_ == State::kEnded) return;
    const auto status = machine_.wait(seconds(1));
    const int signal = status ? status->signal : 0;
    if (link_error_ && link_error_->code != Errc::kUnavailable) {
      on_guest_ended(ExitReason::kVmmError,
                     "the machine role was ended, its link broke: " + link_error_->text);
      return;
    }
    const std::string detail = signal == SIGSYS ? "the machine role made a system call that it must not make"
                               : signal != 0
                                   ? "the machine role was ended by signal " + std::to_string(signal)
                                   : "the machine role ended unexpectedly";
    on_guest_ended(signal == SIGKILL ? ExitReason::kKilled : ExitReason::kVmmError, detail);
  }

  void on_net_exit() {
    static_cast<void>(net_.wait(seconds(1)).ok());
    // Its last words may be among the events of this very round.
    loop_->post([this] { net_ended(); });
  }

  void net_ended() {
    if (state_ == State::kEnded) return;
    // A machine role that dies takes msb-net along: its descriptors close before its end can be seen.
    pollfd machine{machine_.pidfd(), POLLIN, 0};
    if (::poll(&machine, 1, kMachineDeathMs) > 0) {
      on_machine_exit();
      return;
    }
    const Error error = net_link_->failure().value_or(
        make_error(Errc::kUnavailable, "msb-net ended unexpectedly; see logs/net.log"));
    if (state_ == State::kStarting) {
      startup_failed({"net", error}, ExitReason::kVmmError);
    } else {
      finish({ExitReason::kVmmError, error.text, std::nullopt});
    }
  }

  // The guest wants a host port: only the agent's control channel is there, once at a time.
  void on_connect(const from_machine::Connect& connect) {
    to_machine::Connected answer{connect.id, UniqueFd()};
    if (connect.port == proto::kReadyPort && !agent_) {
      auto pair = socket_pair(SOCK_STREAM);
      if (pair) {
        auto stream = FrameStream::open(*loop_, std::move(pair->first), *this);
        if (stream) {
          agent_ = std::move(stream).value();
          answer.socket = std::move(pair->second);
          agent_->send(FrameType::kHello, proto::to_json(proto::Hello{.agent = "msb-vmm"}));
        }
      }
    } else if (auto socket = host_sockets_.connect(connect.port)) {
      answer.socket = std::move(socket).value();
    }
    tell_machine(std::move(answer));
  }

  // --- the agent -------------------------------------------------------------------------------------------

  void on_frame(FrameStream& /*stream*/, const proto::Frame& frame) override {
    if (state_ == State::kEnded) return;
    switch (frame.type()) {
      case FrameType::kReady:
        on_ready(as_text(frame.payload));
        return;
      case FrameType::kError: {
        // It cannot set the guest up, says why and powers off.
        const auto error = proto::from_json<proto::ErrorReply>(as_text(frame.payload));
        startup_failed({"boot", make_error(Errc::kUnavailable, "the guest's agent: %s",
                                           error ? quote_for_log(error->text).c_str() : "failed")},
                       ExitReason::kVmmError);
        return;
      }
      case FrameType::kShutdownDone:
        if (state_ == State::kStopping) finish(pending_end_);
        return;
      case FrameType::kLog:
        if (const auto record = proto::parse_log(frame.payload)) {
          exec_log_->output(record->session, record->stream, record->dropped, as_text(record->data));
        }
        return;
      case FrameType::kReply:
        if (const auto info = proto::from_json<proto::GuestInfo>(as_text(frame.payload)); info && idle_) {
          idle_->heard(*info);
        }
        return;
      case FrameType::kEvent:
        on_agent_event(as_text(frame.payload));
        return;
      default:
        return;  // HELLO, and what newer agents may tell
    }
  }

  void on_agent_event(std::string_view payload) {
    const auto event = proto::from_json<proto::ControlEvent>(payload);
    if (!event) return;
    if (event->kind == proto::ControlEvent::Kind::kOom) control_->announce_oom(event->count);
    const bool main = main_ && main_->is_session(event->session);  // it tells its end itself
    if (event->exit && !main) exec_log_->ended(event->session, *event->exit);
  }

  void on_ready(std::string_view payload) {
    if (state_ != State::kStarting) return;
    const auto ready = proto::from_json<proto::Ready>(payload);
    if (!ready) {
      startup_failed(
          {"boot", make_error(Errc::kProtocol, "the agent's READY: %s", ready.error().text.c_str())},
          ExitReason::kVmmError);
      return;
    }
    loop_->cancel_timer(boot_timer_);
    // What it was given for a clock has aged by its boot.
    agent_->send(FrameType::kClock, proto::to_json(proto::ClockMessage{wall_clock_ns()}));
    enter(State::kRunning);
    const std::string line = ready_line(*ready);
    write_ready_line(line);
    MSB_INFO("ready: %s", line.c_str());
    limit_life();
    if (spec_.main) start_main();
  }

  std::string ready_line(const proto::Ready& ready) const {
    JsonWriter line;
    line.begin_object().field("ready", true);
    // On the host's monotonic clock, then on the guest's.
    line.field("started_ns", started_.ns);
    line.field("machine_ran_ns", machine_ran_.ns);
    line.field("told_ns", SteadyClock().now().ns);
    line.field("agent_started_ns", ready.agent_started_ns).field("mounted_ns", ready.mounted_ns);
    line.field("agent_ready_ns", ready.ready_ns)
        .field("kernel", ready.kernel)
        .field("warnings", ready.warnings);
    line.key("confinement").raw(confinement_).end_object();
    return std::move(line).take();
  }

  void limit_life() {
    if (spec_.timeouts.max_duration_s > 0) {
      loop_->add_timer_after(seconds(spec_.timeouts.max_duration_s), [this] {
        begin_stop({ExitReason::kMaxDuration, "it lived as long as it was allowed to", std::nullopt});
      });
    }
    if (spec_.timeouts.idle_s > 0) {
      const auto ask = [this] {
        if (state_ == State::kRunning && agent_) agent_->send(FrameType::kRequest, R"({"op":"info"})");
      };
      idle_.emplace(*loop_, seconds(spec_.timeouts.idle_s), ask, [this] {
        begin_stop({ExitReason::kIdle, "nothing happened for " + std::to_string(spec_.timeouts.idle_s) + " s",
                    std::nullopt});
      });
    }
  }

  void start_main() {
    auto main = MainCommand::start(
        *loop_, {.run_fd = files_.run.get(), .request = *spec_.main, .logged = spec_.main_logged}, *exec_log_,
        [this](Ending ending) { begin_stop(std::move(ending)); });
    if (!main) {
      begin_stop({ExitReason::kVmmError, "start the main command: " + main.error().text, std::nullopt});
      return;
    }
    main_ = std::move(main).value();
  }

  void on_closed(FrameStream& /*stream*/, const std::string& why) override {
    FrameStream::dispose(*loop_, std::move(agent_));
    if (state_ == State::kStopping) return;  // the end follows, or the timer
    if (state_ != State::kEnded) MSB_WARN("the agent's control channel: %s", why.c_str());
  }

  // --- owner, signals, clients -----------------------------------------------------------------------------

  void on_leash() {
    char byte;
    if (::read(leash_.get(), &byte, 1) > 0) return;
    loop_->remove(leash_token_);
    begin_stop({ExitReason::kOwnerGone, "the process it was attached to ended", std::nullopt});
  }

  void on_signal() {
    signalfd_siginfo info{};
    if (::read(signals_.get(), &info, sizeof info) != static_cast<ssize_t>(sizeof info)) return;
    begin_stop({ExitReason::kStopped, "msb-vmm got signal " + std::to_string(info.ssi_signo), std::nullopt});
  }

  std::string status_json() override {
    JsonWriter out;
    out.begin_object().field("state", state_name(state_)).field("name", spec_.name);
    out.field("pid", static_cast<std::int64_t>(::getpid()));
    out.field("machine_pid", static_cast<std::int64_t>(machine_.pid()));
    out.field("net_pid", static_cast<std::int64_t>(std::max(net_.pid(), 0)));
    out.field("since_ns", state_file_->started_ns()).field("cpus", spec_.cpus_online);
    out.field("memory_mib", spec_.memory_mib).key("confinement").raw(confinement_).end_object();
    return std::move(out).take();
  }
  void stop_asked(const proto::ControlRequest& request) override {
    if (request.force) {
      finish({ExitReason::kKilled, "a stop by force was asked for", std::nullopt});
    } else {
      begin_stop({ExitReason::kStopped, "a stop was asked for", std::nullopt}, request.grace_ms);
    }
  }
  void kill_asked() override { finish({ExitReason::kKilled, "its end was asked for", std::nullopt}); }
  Status pause_asked(bool pause) override {
    const State needed = pause ? State::kRunning : State::kPaused;
    if (state_ != needed) {
      return make_error(Errc::kInvalid, "it is %s", std::string(state_name(state_)).c_str());
    }
    if (pause) {
      tell_machine(to_machine::Pause{});
    } else {
      tell_machine(to_machine::Resume{});
    }
    return {};
  }
  void touched() override {
    if (idle_) idle_->touch();
  }
  Status net_asked(std::uint64_t client, const std::string& request) override {
    if (!net_link_) return make_error(Errc::kUnsupported, "it has no network");
    net_link_->ask(request, [this, client](FrameType type, std::string_view payload) {
      control_->net_answered(client, type, payload);
    });
    return {};
  }

  proto::VmSpec spec_;
  HostSockets host_sockets_;
  SandboxFiles files_;
  std::optional<StateFile> state_file_;
  std::optional<ExecLog> exec_log_;
  std::unique_ptr<EventLoop> loop_;
  Child machine_;
  Child net_;
  std::unique_ptr<NetLink> net_link_;
  UniqueFd link_;
  EventLoop::IoToken link_token_;
  std::optional<Error> link_error_;  // why nothing more comes from the machine role
  UniqueFd leash_;
  EventLoop::IoToken leash_token_;
  UniqueFd signals_;
  std::unique_ptr<ControlServer> control_;
  std::unique_ptr<FrameStream> agent_;
  std::unique_ptr<MainCommand> main_;
  std::optional<IdleTimer> idle_;
  State state_ = State::kStarting;
  Ending pending_end_;
  std::string confinement_ = "null";
  Instant started_;
  Instant machine_ran_;  // the first guest instruction
  EventLoop::TimerToken boot_timer_ = 0;
  int exit_code_ = kExitOk;
};

}  // namespace

int run_supervisor_role(proto::VmSpec spec) { return SupervisorRole(std::move(spec)).run(); }

}  // namespace msb::vmm
