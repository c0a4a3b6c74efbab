// SPDX-License-Identifier: Apache-2.0
// Sandbox: opening, looking, starting, stopping, removing. Creation stands in create.cc, commands in exec.cc,
// files in file_transfer.cc.
#include "supervisor/supervisor.h"

#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>

#include "base/base64.h"
#include "base/file.h"
#include "base/json.h"
#include "base/subprocess.h"
#include "supervisor/names.h"
#include "supervisor/network.h"
#include "supervisor/sandbox_impl.h"
#include "supervisor/vm_spec_builder.h"

namespace msb::supervisor {
namespace {

constexpr auto kBootDeadline = std::chrono::minutes(2);
constexpr auto kLockDeadline = std::chrono::seconds(60);
constexpr auto kTeardownDeadline = std::chrono::seconds(10);

Result<std::string> read_below(int dir_fd, const std::string& name, std::size_t max) {
  MSB_ASSIGN(const UniqueFd fd, open_at(dir_fd, name, O_RDONLY | O_NOFOLLOW));
  return read_all(fd.get(), max);
}

// The last lines of a log, for an error about a machine that said nothing else.
std::string last_lines(int dir_fd, const std::string& name) {
  auto text = read_below(dir_fd, name, std::size_t{1} << 20);
  if (!text.ok()) return {};
  while (!text->empty() && text->back() == '\n') text->pop_back();
  std::size_t at = text->size();
  for (int lines = 0; lines < 3 && at != std::string::npos && at != 0; ++lines)
    at = text->rfind('\n', at - 1);
  return at == std::string::npos || at == 0 ? *text : text->substr(at + 1);
}

Result<UniqueFd> spec_descriptor(std::string_view json) {
  UniqueFd fd(::memfd_create("msb-spec", MFD_CLOEXEC));
  if (!fd) return sys_error("make the descriptor for the machine's configuration");
  MSB_TRY(write_all(fd.get(), json));
  if (::lseek(fd.get(), 0, SEEK_SET) != 0) return sys_error("rewind the machine's configuration");
  return fd;
}

struct Pipe {
  UniqueFd read;
  UniqueFd write;
};
Result<Pipe> make_pipe() {
  int fds[2];
  if (::pipe2(&fds[0], O_CLOEXEC) != 0) return sys_error("make a pipe");
  return Pipe{UniqueFd(fds[0]), UniqueFd(fds[1])};
}

// Waits for the one line msb-vmm writes when the guest is ready or the start failed.
Status wait_ready(int ready_fd, int directory_fd, Instant deadline) {
  const SteadyClock clock;
  std::string line;
  while (line.find('\n') == std::string::npos) {
    const auto left = std::max<std::int64_t>((deadline - clock.now()).count(), 0);
    const timespec limit{left / 1'000'000'000, left % 1'000'000'000};
    pollfd poll_fd{ready_fd, POLLIN, 0};
    const int ready = ::ppoll(&poll_fd, 1, &limit, nullptr);
    if (ready < 0 && errno == EINTR) continue;
    if (ready == 0)
      return make_error(Errc::kTimeout,
                        "the guest was not ready in time (msb logs --source system tells more)");
    char buffer[4096];
    const ssize_t n = ::read(ready_fd, &buffer[0], sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0 || line.size() > 65536) {
      const std::string said = last_lines(directory_fd, "logs/vmm.log");
      return Error{Errc::kUnavailable, 0,
                   "msb-vmm ended before the guest was ready" + (said.empty() ? "" : ": " + said)};
    }
    line.append(&buffer[0], static_cast<std::size_t>(n));
  }
  line.resize(line.find('\n'));
  MSB_ASSIGN(const JsonDocument document, JsonDocument::parse(line));
  const auto error = document.root().find("error");
  if (!error) return {};
  const std::string code = error->get_string_or("code", "").value_or("");
  std::string text = error->get_string_or("text", "it did not say why").value_or("");
  if (auto stage = error->get_string_or("stage", ""); stage.ok() && !stage->empty())
    text = *stage + ": " + text;
  Errc errc = Errc::kUnavailable;
  for (int value = 0; value <= static_cast<int>(Errc::kInternal); ++value) {
    if (errc_name(static_cast<Errc>(value)) == code) errc = static_cast<Errc>(value);
  }
  return Error{errc, 0, std::move(text)};
}

}  // namespace

Sandbox::Sandbox(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Sandbox::Sandbox(Sandbox&&) noexcept = default;
Sandbox& Sandbox::operator=(Sandbox&&) noexcept = default;
Sandbox::~Sandbox() = default;

const std::string& Sandbox::name() const { return impl_->name; }
int Sandbox::directory_fd() const { return impl_->directory.get(); }

Result<Sandbox> Sandbox::open(const Home& home, std::string_view name) {
  MSB_TRY(check_name(name));
  auto impl = std::make_unique<Impl>();
  impl->home_path = home.path();
  impl->name = name;
  auto directory = open_at(home.sandboxes_fd(), impl->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  if (!directory.ok()) {
    if (directory.error().code != Errc::kNotFound) return std::move(directory).error();
    return make_error(Errc::kNotFound, "there is no sandbox \"%s\"", impl->name.c_str());
  }
  impl->directory = std::move(directory).value();
  impl->sandboxes = UniqueFd(::fcntl(home.sandboxes_fd(), F_DUPFD_CLOEXEC, 0));
  return Sandbox(std::move(impl));
}

Result<SandboxRecord> Sandbox::Impl::record() const {
  MSB_ASSIGN(const std::string text, read_record(directory.get()));
  return record_from_json(text).with_context("spec.json of " + name);
}

Result<StateFile> Sandbox::Impl::state_file() const {
  return read_state(directory.get()).with_context("the state of \"" + name + "\"");
}

Result<DerivedState> Sandbox::Impl::derived() const {
  MSB_ASSIGN(const StateFile file, state_file());
  return derive_state(file).with_context("the state of \"" + name + "\"");
}

Result<UniqueFd> Sandbox::Impl::lock_operations(Deadline deadline) const {
  const Deadline limit = deadline ? deadline : deadline_after(kLockDeadline);
  auto lock = lock_file(directory.get(), "ops.lock", limit);
  if (!lock.ok()) return std::move(lock).error().with_context(name);
  struct stat ours {};
  struct stat there {};
  const bool same = ::fstat(directory.get(), &ours) == 0 &&
                    ::fstatat(sandboxes.get(), name.c_str(), &there, AT_SYMLINK_NOFOLLOW) == 0 &&
                    ours.st_ino == there.st_ino && ours.st_dev == there.st_dev;
  if (!same) return make_error(Errc::kNotFound, "there is no sandbox \"%s\" any more", name.c_str());
  return std::move(lock).value();
}

Result<SandboxInfo> Sandbox::info() const {
  MSB_ASSIGN(SandboxRecord record, impl_->record());
  MSB_ASSIGN(const StateFile file, impl_->state_file());
  MSB_ASSIGN(DerivedState derived, derive_state(file));
  SandboxInfo out;
  out.name = impl_->name;
  out.state = derived.state;
  out.spec = std::move(record.spec);
  out.image_digest = std::move(record.manifest_digest);
  out.created_ns = record.created_ns;
  out.started_ns = file.started_ns;
  if (derived.state != State::kStopped && derived.state != State::kCrashed) out.pid = file.pid;
  out.ending = std::move(derived.ending);
  if (!record.main_json.empty()) {
    const auto main = JsonDocument::parse(record.main_json);
    if (main.ok()) out.main = proto::get_byte_strings_or_empty(main->root(), "argv").value_or({});
  }
  return out;
}

Status Sandbox::Impl::boot(const SandboxRecord& record, const StartOptions& options) {
  MSB_ASSIGN(const Installation installation, Installation::found());
  MSB_ASSIGN(Home home, Home::open(home_path));
  auto image = load_image(home, record.image_file);
  if (!image.ok()) {
    return std::move(image).error().with_context("image " + record.image_reference + " of " + name);
  }
  LaunchInput input;
  input.name = name;
  input.directory = path();
  input.record = &record;
  input.image = &*image;
  input.installation = &installation;
  input.ready_fd = 4;
  const bool attached = options.lifetime == Lifetime::kAttached;
  if (attached) input.leash_fd = 5;
  UniqueFd secrets;
  if (!record.spec.network.proxy_password_file.empty()) {
    MSB_ASSIGN(std::string json, net_secrets_json(record.spec.network));
    MSB_ASSIGN(secrets, spec_descriptor(json));
    ::explicit_bzero(json.data(), json.size());
    input.secrets_fd = 6;
  }
  input.clock_ns = wall_clock_ns();
  MSB_TRY(write_file_atomic(directory.get(), "vm.json", vm_spec_json(input), 0600, Durability::kBuffered));
  input.entropy.resize(64);
  if (::getrandom(input.entropy.data(), input.entropy.size(), 0) !=
      static_cast<ssize_t>(input.entropy.size())) {
    return sys_error("get random bytes");
  }
  MSB_ASSIGN(const UniqueFd spec_fd, spec_descriptor(vm_spec_json(input)));
  MSB_ASSIGN(Pipe ready, make_pipe());
  Pipe leash_pipe;
  if (attached) {
    MSB_ASSIGN(leash_pipe, make_pipe());
  }
  // Put there with ops.lock held: whoever finds it when nobody holds that lock and no machine runs may sweep.
  if (record.spec.ephemeral) MSB_TRY(open_at(directory.get(), "ephemeral", O_WRONLY | O_CREAT | O_NOFOLLOW));
  for (const char* sub : {"logs", "run"}) {
    if (::mkdirat(directory.get(), sub, 0700) != 0 && errno != EEXIST)
      return sys_error(std::string("make ") + sub);
  }
  MSB_ASSIGN(const UniqueFd log,
             open_at(directory.get(), "logs/vmm.log", O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW, 0600));

  SpawnOptions spawn_options;
  spawn_options.path = installation.libexec + "/msb-vmm";
  spawn_options.argv = {"msb-vmm", "--spec-fd", "3"};
  spawn_options.fds = {{log.get(), STDERR_FILENO}, {spec_fd.get(), 3}, {ready.write.get(), 4}};
  if (attached) spawn_options.fds.push_back({leash_pipe.read.get(), 5});
  if (secrets) spawn_options.fds.push_back({secrets.get(), 6});
  spawn_options.new_session = true;
  MSB_ASSIGN(const Orphan vmm, spawn_orphan(spawn_options));
  ready.write.reset();
  leash_pipe.read.reset();
  const Instant deadline = options.deadline ? *options.deadline : *deadline_after(kBootDeadline);
  const Status result = wait_ready(ready.read.get(), directory.get(), deadline);
  if (!result.ok()) {
    // It reports and ends by itself; one that hangs is not left behind.
    pollfd ended{vmm.pidfd.get(), POLLIN, 0};
    if (::poll(&ended, 1, result.error().code == Errc::kTimeout ? 0 : 5000) == 0) {
      ::syscall(SYS_pidfd_send_signal, vmm.pidfd.get(), SIGKILL, nullptr, 0);
      ::poll(&ended, 1, 5000);
    }
    return Error(result.error()).with_context("start \"" + name + "\"");
  }
  leash = std::move(leash_pipe.write);
  return {};
}

Status Sandbox::Impl::start_locked(const StartOptions& options) {
  MSB_ASSIGN(DerivedState derived, this->derived());
  if (derived.state == State::kStopping || derived.state == State::kStopped ||
      derived.state == State::kCrashed) {
    // The end is told before its processes have put everything away; their lock comes free when they have.
    MSB_TRY(wait_for_end(directory.get(), deadline_after(kTeardownDeadline)));
    MSB_ASSIGN(derived, this->derived());
  }
  if (!derived.is_over()) {
    return make_error(Errc::kExists, "\"%s\" is %s already", name.c_str(),
                      std::string(state_name(derived.state)).c_str());
  }
  MSB_ASSIGN(const SandboxRecord stored, record());
  return boot(stored, options);
}

Status Sandbox::start(const StartOptions& options) {
  MSB_ASSIGN(const UniqueFd lock, impl_->lock_operations(std::nullopt));
  return impl_->start_locked(options);
}

Result<std::string> Sandbox::Impl::control(const std::string& request, Deadline deadline) const {
  MSB_ASSIGN(FrameLink link, connect_control(directory.get()));
  queue_request(link, request);
  return wait_reply(link, deadline);
}

Status Sandbox::Impl::force_end(Deadline deadline) const {
  const Deadline limit = deadline ? deadline : deadline_after(kTeardownDeadline);
  const auto before = state_file();
  const auto asked = control(R"({"op":"kill"})", deadline_after(std::chrono::seconds(2)));
  if (!asked.ok() && before.ok() && before->pid > 0) {
    // Nobody answers there. The pidfd is taken before the identity is checked: it cannot mean another process
    // then.
    const UniqueFd pidfd(static_cast<int>(::syscall(SYS_pidfd_open, before->pid, 0)));
    MSB_ASSIGN(const std::string boot, boot_id());
    MSB_ASSIGN(const bool alive, is_alive(before->pid, before->start_time));
    if (pidfd && boot == before->boot_id && alive) {
      ::syscall(SYS_pidfd_send_signal, pidfd.get(), SIGKILL, nullptr, 0);
    }
  }
  return wait_for_end(directory.get(), limit).with_context("wait for the end of \"" + name + "\"");
}

Status Sandbox::stop(const StopOptions& options) {
  MSB_ASSIGN(const UniqueFd lock, impl_->lock_operations(options.deadline));
  MSB_ASSIGN(const DerivedState derived, impl_->derived());
  if (derived.is_over()) return {};
  if (options.force) return impl_->force_end(options.deadline);
  std::int64_t grace_ms = 0;
  if (options.grace_ms) {
    grace_ms = *options.grace_ms;
  } else {
    const auto record = impl_->record();
    grace_ms = record.ok() ? record->spec.stop_timeout_ms : SandboxSpec{}.stop_timeout_ms;
  }
  JsonWriter request;
  request.begin_object().field("op", "stop").field("grace_ms", grace_ms).field("force", false).end_object();
  const Deadline limit = options.deadline
                             ? options.deadline
                             : deadline_after(std::chrono::milliseconds(grace_ms) + kTeardownDeadline);
  auto reply = impl_->control(std::move(request).take(), limit);
  if (reply.ok()) return {};
  // It may have ended by itself while we asked.
  if (reply.error().code != Errc::kTimeout &&
      wait_for_end(impl_->directory.get(), deadline_after(kTeardownDeadline)).ok()) {
    return {};
  }
  return std::move(reply).error().with_context("stop \"" + impl_->name + "\"");
}

Result<Ending> Sandbox::wait(Deadline deadline) {
  MSB_ASSIGN(const DerivedState derived, impl_->derived());
  if (!derived.is_over()) {
    const auto reply = impl_->control(R"({"op":"wait"})", deadline);
    if (!reply.ok() && reply.error().code == Errc::kTimeout) return Error(reply.error());
    if (reply.ok()) {
      if (auto ending = ending_from_json(*reply)) return std::move(*ending);
    }
    // It was lost, or ended before it could hear us: its lock comes free when all is written.
    MSB_TRY(wait_for_end(impl_->directory.get(), deadline ? deadline : deadline_after(kTeardownDeadline)));
  }
  MSB_ASSIGN(const DerivedState after, impl_->derived());
  return after.ending.value_or(Ending{});
}

Status Sandbox::remove(bool force) {
  MSB_ASSIGN(const UniqueFd lock, impl_->lock_operations(std::nullopt));
  const auto derived = impl_->derived();
  if (!derived.ok() && !force) return Error(derived.error());
  const bool over = derived.ok() && derived->is_over();
  if (!over && !force) {
    return make_error(Errc::kBusy, "\"%s\" is %s: stop it first, or remove it with -f", impl_->name.c_str(),
                      std::string(state_name(derived->state)).c_str());
  }
  if (!over) MSB_TRY(impl_->force_end(std::nullopt));
  // A process that has given its last word may still be closing: its lock tells.
  if (over) MSB_TRY(wait_for_end(impl_->directory.get(), deadline_after(kTeardownDeadline)));
  return impl_->remove_files();
}

Status Sandbox::Impl::remove_files() const {
  auto hidden = hide_tree(sandboxes.get(), name);
  if (!hidden) {
    if (hidden.error().sys_errno == ENOENT) return {};  // an ephemeral one that has removed itself
    return std::move(hidden).error();
  }
  return remove_tree(sandboxes.get(), *hidden);
}

Status Sandbox::discard() {
  MSB_ASSIGN(const UniqueFd lock, impl_->lock_operations(std::nullopt));
  // The answer comes when its name is free and before its memory and files are: nobody has to wait for that.
  const auto reply = impl_->control(R"({"op":"kill"})", deadline_after(std::chrono::seconds(5)));
  if (reply.ok()) return {};
  return impl_->remove_files();
}

Result<std::vector<std::string>> Sandbox::command(const std::vector<std::string>& words) const {
  MSB_ASSIGN(const SandboxRecord record, impl_->record());
  MSB_ASSIGN(const Home home, Home::open(impl_->home_path));
  MSB_ASSIGN(const StoredImage image, load_image(home, record.image_file));
  return resolve_command(record.spec, image.config, words);
}

Status Sandbox::touch() {
  MSB_TRY(impl_->control(R"({"op":"touch"})", deadline_after(std::chrono::seconds(10)))
              .with_context(impl_->name));
  return {};
}

Result<std::string> Sandbox::net(const std::string& request, Deadline deadline) {
  JsonWriter out;
  out.begin_object().field("op", "net").key("request").raw(request).end_object();
  auto answer = impl_->control(std::move(out).take(), deadline);
  if (!answer.ok()) return std::move(answer).error().with_context(impl_->name);
  return answer;
}

Result<Duration> Sandbox::ping(Deadline deadline) {
  const SteadyClock clock;
  const Instant start = clock.now();
  MSB_ASSIGN(FrameLink link, connect_agent(impl_->directory.get(), deadline));
  queue_request(link, R"({"op":"ping"})");
  MSB_TRY(wait_reply(link, deadline));
  return clock.now() - start;
}

}  // namespace msb::supervisor
