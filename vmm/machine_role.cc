// SPDX-License-Identifier: Apache-2.0
#include "vmm/machine_role.h"

#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <map>

#include "base/log.h"
#include "vmm/ending.h"
#include "vmm/exit_codes.h"
#include "vmm/machine.h"
#include "vmm/machine_confinement.h"
#include "vmm/machine_link.h"

namespace msb::vmm {
namespace {

class MachineRole final : public MachineEvents, public DeviceHost {
 public:
  explicit MachineRole(int link) : link_(link) {}

  int run() {
    auto failure = start();
    if (failure) {
      const std::string code(errc_name(failure->error.code));
      static_cast<void>(send(link_.get(), from_machine::Failed{code, failure->stage, failure->error.text}));
      return exit_code_for(failure->stage, failure->error.code);
    }
    const Status ran = loop_->run();
    if (!ran) MSB_ERROR("event loop: %s", ran.error().text.c_str());
    // The kernel takes everything apart; doing it by hand would only make the end slower.
    ::_exit(ran ? kExitOk : kExitInternal);
  }

 private:
  std::optional<Failure> start() {
    auto start = receive_start(link_.get());
    if (!start) return Failure{"spec", std::move(start).error()};
    auto system = kvm::System::open();
    if (!system) return Failure{"kvm", std::move(system).error()};
    const pid_t supervisor = ::getppid();
    confine::Report report;
    confine_machine_process(report);
    // Changed credentials have cleared it. If the supervisor role is gone already, nobody would tell us.
    if (::prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0 || ::getppid() != supervisor) {
      return Failure{"confinement", make_error(Errc::kUnavailable, "the supervisor role is gone")};
    }
    auto filters = MachineFilters::compile();
    if (!filters) return Failure{"confinement", std::move(filters).error()};

    auto loop = EventLoop::create();
    if (!loop) return Failure{"machine", std::move(loop).error()};
    loop_ = std::move(loop).value();
    if (auto status = set_nonblocking(link_.get(), true); !status) return Failure{"machine", status.error()};
    auto watched = loop_->add(link_.get(), EPOLLIN, [this](std::uint32_t) { on_link(); });
    if (!watched) return Failure{"machine", std::move(watched).error()};

    auto machine = Machine::prepare(std::move(system).value(), std::move(start->spec),
                                    {*loop_, *this, *this, [&filters] { return filters->vcpu.install(); },
                                     [&filters] { return filters->disk.install(); }});
    if (!machine) return Failure{"machine", std::move(machine).error()};
    machine_ = std::move(machine).value();
    report.add(confine::Layer::kSeccomp, filters->loop.install());
    if (!report.complete() && start->require_confinement) {
      return Failure{"confinement",
                     make_error(Errc::kUnavailable, "this host lacks: %s", report.missing_text().c_str())};
    }
    JsonWriter layers;
    report.write(layers);
    if (auto status = send(link_.get(), from_machine::Running{std::move(layers).take()}); !status) {
      return Failure{"machine", status.error()};
    }
    machine_->run();
    return std::nullopt;
  }

  void on_link() {
    auto message = receive_to_machine(link_.get());
    if (!message) {
      if (message.error().sys_errno == EAGAIN) return;
      ::_exit(kExitOk);  // the supervisor role is gone, and with it the sandbox
    }
    if (std::holds_alternative<to_machine::Pause>(*message)) {
      machine_->pause();
      tell(from_machine::Paused{});
    } else if (std::holds_alternative<to_machine::Resume>(*message)) {
      machine_->run();
      tell(from_machine::Resumed{});
    } else if (auto* connected = std::get_if<to_machine::Connected>(&*message)) {
      on_connected(*connected);
    }
  }

  void on_connected(to_machine::Connected& connected) {
    const auto waiting = waiting_.find(connected.id);
    if (waiting == waiting_.end()) return;
    auto done = std::move(waiting->second);
    waiting_.erase(waiting);
    if (connected.socket) {
      done(std::move(connected.socket));
    } else {
      done(make_error(Errc::kPermission, "the port is not open to the guest"));
    }
  }

  void connect_host_port(std::uint32_t port, std::function<void(Result<UniqueFd>)> done) override {
    if (waiting_.size() >= kMaxWaiting) {
      done(make_error(Errc::kLimit, "too many connections are being opened"));
      return;
    }
    const std::uint64_t id = next_id_++;
    waiting_.emplace(id, std::move(done));
    tell(from_machine::Connect{id, port});
  }

  void machine_ended(proto::ExitReason reason, const std::string& detail) override {
    tell(from_machine::Ended{reason, detail});
    loop_->stop();
  }

  // The link is local and the supervisor role reads it; if it does not, the machine has no master any more.
  void tell(const from_machine::Message& message) {
    if (auto status = send(link_.get(), message); !status) ::_exit(kExitInternal);
  }

  static constexpr std::size_t kMaxWaiting = 64;
  UniqueFd link_;
  std::unique_ptr<EventLoop> loop_;
  std::map<std::uint64_t, std::function<void(Result<UniqueFd>)>> waiting_;
  std::uint64_t next_id_ = 1;
  std::unique_ptr<Machine> machine_;
};

}  // namespace

int run_machine_role(int link) { return MachineRole(link).run(); }

}  // namespace msb::vmm
