// SPDX-License-Identifier: Apache-2.0
// msb-agent, process 1 of the guest: sets the guest up, tells the host, serves it, and ends the guest in
// order.
//
// Before READY only what a command may depend on is done. What only matters later (protection from the OOM
// killer's and a fork bomb's effects on us, the memory events) follows while the host reads READY.
#include <fcntl.h>
#include <linux/vm_sockets.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>

#include "base/event_loop.h"
#include "base/file.h"
#include "base/socket.h"
#include "guest-agent/guest_setup.h"
#include "guest-agent/init_handoff.h"
#include "guest-agent/mounts.h"
#include "guest-agent/net_setup.h"
#include "guest-agent/server.h"
#include "proto/frame.h"

namespace msb::agent {
namespace {

constexpr int kListenBacklog = 1024;
constexpr time_t kHostAnswersS = 60;
// How long killed processes may take to go away before the disks are closed over them.
constexpr int kReapMs = 500;

std::uint64_t boot_clock_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_BOOTTIME, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<std::uint64_t>(now.tv_nsec);
}

// Blocked in every thread from the start: handled through a signalfd, or not at all.
void block_signals() {
  sigset_t all;
  ::sigfillset(&all);
  ::sigprocmask(SIG_SETMASK, &all, nullptr);
}

// Descriptors 0 to 2 are taken from the first line on: without a console driver the kernel opens none, and
// the next socket would be somebody's standard error. True if they were missing.
bool hold_standard_descriptors() {
  bool missing = false;
  while (true) {
    const int fd = ::open("/", O_PATH | O_CLOEXEC);
    if (fd < 0) return missing;
    if (fd > 2) {
      ::close(fd);
      return missing;
    }
    missing = true;
  }
}

// Once /dev is there: input from nowhere, messages to the kernel's log.
void open_standard_descriptors() {
  const UniqueFd nothing(::open("/dev/null", O_RDWR | O_CLOEXEC));
  const UniqueFd log(::open("/dev/kmsg", O_WRONLY | O_CLOEXEC));
  for (int fd = 0; fd <= 2; ++fd) ::dup2(fd == 2 && log ? log.get() : nothing.get(), fd);
}

Result<UniqueFd> listen_vsock() {
  UniqueFd socket(::socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket) return sys_error("open a vsock socket");
  sockaddr_vm address{};
  address.svm_family = AF_VSOCK;
  address.svm_cid = VMADDR_CID_ANY;
  address.svm_port = proto::kAgentPort;
  if (::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    return sys_error("bind the agent's vsock port");
  }
  if (::listen(socket.get(), kListenBacklog) != 0) return sys_error("listen on vsock");
  return socket;
}

Result<UniqueFd> connect_host() {
  UniqueFd socket(::socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket) return sys_error("open a vsock socket");
  sockaddr_vm address{};
  address.svm_family = AF_VSOCK;
  address.svm_cid = VMADDR_CID_HOST;
  address.svm_port = proto::kReadyPort;
  // The kernel gives up after two seconds; a host that starts many guests may take longer to answer.
  const timeval patience{kHostAnswersS, 0};
  ::setsockopt(socket.get(), AF_VSOCK, SO_VM_SOCKETS_CONNECT_TIMEOUT, &patience, sizeof patience);
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    return sys_error("connect to the host");
  }
  return socket;
}

constexpr int kHostEndsUsMs = 5000;

[[noreturn]] void power_off() {
  ::sync();
  ::reboot(RB_POWER_OFF);
  while (true) ::pause();
}

// The guest cannot be used: says so on the console and, if it can, to the host.
[[noreturn]] void boot_failed(const Error& error) {
  std::fprintf(stderr, "msb-agent: %s\n", error.text.c_str());
  if (auto host = connect_host(); host.ok()) {
    Bytes out;
    append_frame(
        out, proto::FrameType::kHello,
        proto::to_json(proto::Hello{proto::kAgentVersion, proto::kAgentMinVersion, std::string(kAgentName)}));
    append_frame(out, proto::FrameType::kError,
                 proto::to_json(proto::ErrorReply{std::string(errc_name(error.code)), error.sys_errno, "boot",
                                                  error.text}));
    (void)write_all(host->get(), as_text(out));
    ::shutdown(host->get(), SHUT_WR);
    char ignored;
    // The host has it when it closes its end.
    [[maybe_unused]] const ssize_t got = ::recv(host->get(), &ignored, 1, 0);
  }
  power_off();
}

void kill_everything() {
  ::kill(-1, SIGKILL);
  for (int waited = 0; waited < kReapMs; ++waited) {
    while (true) {
      const pid_t pid = ::waitpid(-1, nullptr, WNOHANG);
      if (pid < 0 && errno == ECHILD) return;
      if (pid <= 0) break;
    }
    ::kill(-1, SIGKILL);  // those that were being forked
    const timespec millisecond{0, 1'000'000};
    ::nanosleep(&millisecond, nullptr);
  }
}

struct Guest {
  proto::GuestConfig config;
  std::vector<std::string> warnings;
  UniqueFd old_root;
  proto::Ready ready;
};

Status set_up(Guest& guest) {
  const bool no_console = hold_standard_descriptors();
  MSB_TRY(mount_early());
  if (no_console) open_standard_descriptors();
  MSB_ASSIGN(guest.config, take_boot_config());
  seed_and_set_clock(guest.config, guest.warnings);
  MSB_ASSIGN(guest.old_root, enter_root(guest.config, guest.warnings));
  guest.ready.mounted_ns = boot_clock_ns();
  set_limits(guest.warnings);
  set_up_network(guest.config.net ? &*guest.config.net : nullptr, guest.warnings);
  write_guest_files(guest.config, guest.warnings);
  return {};
}

Status serve(Guest& guest) {
  MSB_ASSIGN(const std::unique_ptr<EventLoop> loop, EventLoop::create());
  const SessionsGroup group = make_sessions_group(guest.warnings);
  Server::Options options;
  options.defaults = guest.config;
  options.defaults.files.clear();
  options.sessions_cgroup = group.directory.get();
  Server* running = nullptr;
  options.init_stop_signal = init_stop_signal(guest.config);
  options.on_shutdown = [&](Instant deadline) {
    if (guest.config.init) wait_for_last_process((deadline - loop->now()) / std::chrono::milliseconds(1));
    kill_everything();
    leave_root(guest.old_root.get());
    running->report_shutdown_done();
    // The host ends the machine when it has the message. Powering off at once could overtake it: what is
    // written to the socket may still lie in the guest's queues.
    ::poll(nullptr, 0, kHostEndsUsMs);
    power_off();
  };
  Server server(*loop, std::move(options));
  running = &server;
  MSB_TRY(server.watch_signals());
  MSB_ASSIGN(UniqueFd listener, listen_vsock());
  MSB_TRY(server.listen(std::move(listener)));
  MSB_ASSIGN(UniqueFd host, connect_host());
  utsname names{};
  ::uname(&names);
  guest.ready.kernel = names.release;
  guest.ready.warnings = guest.warnings;
  guest.ready.ready_ns = boot_clock_ns();
  MSB_TRY(server.start_control(std::move(host), guest.ready));

  // Our pages stay in memory; those touched later are locked as they come.
  quieten_kernel();
  ::mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT);
  if (group.memory_events) {
    const int events = group.memory_events.get();
    auto token = loop->add(events, EPOLLPRI, [&server, events](std::uint32_t) {
      server.report_oom_kills(read_oom_kills(events));
    });
    (void)token;
  }
  return loop->run();
}

int agent_main() {
  Guest guest;
  guest.ready.agent_started_ns = boot_clock_ns();
  block_signals();
  if (Status status = set_up(guest); !status.ok()) boot_failed(std::move(status).error());
  if (guest.config.init) {
    if (guest.config.init->path == "auto") {
      Result<std::string> found = find_init();
      if (!found.ok()) boot_failed(std::move(found).error());
      guest.config.init->path = std::move(found).value();
    }
    if (Status status = hand_over_init(*guest.config.init); !status.ok()) {
      boot_failed(std::move(status).error());
    }
  }
  Status status = serve(guest);
  boot_failed(status.ok() ? make_error(Errc::kInternal, "the event loop ended") : std::move(status).error());
}

}  // namespace
}  // namespace msb::agent

int main() {
  if (::getpid() != 1) {
    std::fprintf(stderr, "msb-agent: runs as process 1 of a guest only\n");
    return 1;
  }
  return msb::agent::agent_main();
}
