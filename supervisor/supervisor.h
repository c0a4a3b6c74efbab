// SPDX-License-Identifier: Apache-2.0
// The embedding library: sandboxes as values and handles. The one header that a program using msb includes;
// docs/embedding.md shows it at work.
//
// Theory of operation. There is no daemon. A sandbox is a directory below $MSB_HOME/sandboxes plus, while it
// runs, an msb-vmm process that holds its lock. Every function here reads that directory or talks to that
// process through the sockets in it; nothing is cached, so any number of programs may look at and command the
// same sandbox.
//
// Threads: a handle is used by one thread at a time; different handles are independent. No signal handler, no
// SIGCHLD, no global state; children are started detached from the calling program (they never become its
// zombies) and all descriptors are close-on-exec, so it is safe in programs that fork.
//
// Time: functions that wait take a Deadline on the monotonic clock; nullopt waits for ever. kTimeout when it
// passes.
//
// Errors: Errc says the kind (base/result.h), the text what was tried on what and what refused.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "supervisor/spec.h"

namespace msb::supervisor {

using Deadline = std::optional<Instant>;
[[nodiscard]] Deadline deadline_after(Duration delay);

// Where the programs and the guest's files are. found(): beside the running program (PREFIX/bin/x -> PREFIX),
// else $MSB_PREFIX, /usr/local, /usr.
struct Installation {
  std::string libexec;  // directory of msb-vmm, msb-image, ...
  std::string data;     // directory of vmlinux, agent.cpio
  [[nodiscard]] static Result<Installation> found();
};

enum class State : std::uint8_t {
  kCreated,   // never started
  kStarting,  // its machine is coming up
  kRunning,
  kPaused,
  kStopping,
  kStopped,  // ended in order
  kCrashed,  // its processes vanished without a last word (killed, host crash or reboot)
};
[[nodiscard]] std::string_view state_name(State state);

// How a sandbox's last run ended.
struct Ending {
  std::string reason;         // the names of proto/exit_reason.h, or "crashed", "host_reboot"
  std::string detail;         // more about it, may be empty
  std::optional<int> code;    // of the main command
  std::optional<int> signal;  // of the main command
  std::int64_t at_ns = 0;     // wall clock, 0 unknown
};

// What a listing shows of a sandbox.
struct SandboxSummary {
  std::string name;
  State state = State::kCreated;
  std::string image;  // as the specification names it
  std::vector<Label> labels;
  std::int64_t created_ns = 0;  // wall clock
  std::optional<Ending> ending;
};

struct SandboxInfo {
  std::string name;
  State state = State::kCreated;
  SandboxSpec spec;
  std::string image_digest;
  std::int64_t created_ns = 0;    // wall clock
  std::int64_t started_ns = 0;    // wall clock; 0 never
  pid_t pid = 0;                  // of the supervisor role while it runs
  std::vector<std::string> main;  // argv of the main command of a detached run; empty: none
  std::optional<Ending> ending;
};

// $MSB_HOME: an opened state directory. Cheap to copy handles from; outlives none of them.
class Home {
 public:
  // `path` empty: $MSB_HOME, else $XDG_DATA_HOME/msb, else ~/.local/share/msb. Makes the directories (0700).
  [[nodiscard]] static Result<Home> open(std::string path = {});
  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] int sandboxes_fd() const { return sandboxes_.get(); }
  // Names of all sandboxes, sorted.
  [[nodiscard]] Result<std::vector<std::string>> names() const;
  // Reads less than Sandbox::info does: for going through many. kNotFound when there is none of that name.
  [[nodiscard]] Result<SandboxSummary> summary(const std::string& name) const;
  // Finishes what a killed msb left half done: directories of failed creations and removals, ended ephemeral
  // sandboxes. Never touches what another process works on.
  void sweep() const;

 private:
  std::string path_;
  UniqueFd sandboxes_;
};

struct TerminalSize {
  std::uint16_t rows = 24;
  std::uint16_t cols = 80;
};

// One command in a sandbox. Empty members take the sandbox's (image's) defaults.
struct ExecSpec {
  std::vector<std::string> argv;
  std::vector<std::string> env;  // KEY=VALUE, over the sandbox's
  std::string workdir;
  std::string user;
  std::vector<Rlimit> rlimits;
  struct Tty {
    TerminalSize size;
    std::string term;
  };
  std::optional<Tty> tty;       // a terminal instead of three pipes
  bool stdin_open = false;      // input will come through write_stdin; otherwise /dev/null
  std::int64_t timeout_ms = 0;  // 0: none; then the command's process group is killed
  bool detachable = false;      // goes on when the connection ends; see attach
  bool log = true;              // its output goes to the sandbox's logs too
  std::string name;             // shown by sessions()
};

struct ExecExit {
  std::optional<int> code;  // exactly one of code and signal
  std::optional<int> signal;
  bool timed_out = false;
  // As a shell reports it: the code, or 128 plus the signal.
  [[nodiscard]] int shell_code() const { return signal ? 128 + *signal : code.value_or(0); }
};

// Why a command could not be started: "not_found", "not_executable", "permission", "bad_cwd", "bad_user",
// "bad_args", "limit", "no_memory", "other", or another refusal of the guest's agent.
struct ExecFailure {
  std::string code;
  int sys_errno = 0;
  std::string stage;
  std::string text;
};

struct ExecEvent {
  enum class Kind : std::uint8_t { kStarted, kStdout, kStderr, kExit, kFailure };
  Kind kind = Kind::kStarted;
  std::uint64_t session = 0;  // kStarted
  std::string_view data;      // kStdout, kStderr: valid until the next call on the session
  ExecExit exit;              // kExit: the last event
  ExecFailure failure;        // kFailure: the last event
};

// A running command, or the connection to one. Output is taken one event at a time, and none is read ahead
// beyond one frame: a slow reader slows the command, nothing is lost or buffered without bound.
class ExecSession {
 public:
  ExecSession(ExecSession&&) noexcept;
  ExecSession& operator=(ExecSession&&) noexcept;
  ~ExecSession();  // ends the connection: a command that is not detachable is killed by the guest's agent

  // For an event loop: poll fd() for wanted_events() (poll(2) bits) and then call next_event until it gives
  // nullopt.
  [[nodiscard]] int fd() const;
  [[nodiscard]] short wanted_events() const;
  // The next event without blocking; nullopt: none yet. kUnavailable when the sandbox went away.
  [[nodiscard]] Result<std::optional<ExecEvent>> next_event();
  // Waits for it.
  [[nodiscard]] Result<ExecEvent> wait_event(Deadline deadline);

  // Bytes that may be given to write_stdin now; 0: wait until fd() is writable.
  [[nodiscard]] std::size_t stdin_room() const;
  // Queues up to stdin_room() bytes of `data` and sends what the socket takes; the number taken.
  [[nodiscard]] Result<std::size_t> write_stdin(std::string_view data);
  [[nodiscard]] Status close_stdin();
  [[nodiscard]] Status send_signal(int signal);
  [[nodiscard]] Status resize(TerminalSize size);
  // Leaves a detachable command running; attach() with its number comes back to it.
  [[nodiscard]] Status detach();
  [[nodiscard]] bool ended() const;

 private:
  friend class Sandbox;
  struct Impl;
  explicit ExecSession(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// A collected command.
struct ExecResult {
  ExecExit exit;
  std::string out;
  std::string err;
  bool truncated = false;  // more than max_output came; the rest was read and dropped
};

struct SessionSummary {
  std::uint64_t id = 0;
  std::int64_t pid = 0;
  std::string name;
  std::vector<std::string> argv;
  std::string user;
  bool tty = false;
  bool detachable = false;
  bool attached = false;
  std::int64_t started_ns = 0;
  std::optional<ExecExit> exit;
};

// A sandbox's events as they come: JSON objects {"event":...,"time":...}. The stream ends with the sandbox.
class EventStream {
 public:
  EventStream(EventStream&&) noexcept;
  EventStream& operator=(EventStream&&) noexcept;
  ~EventStream();
  [[nodiscard]] int fd() const;  // poll for POLLIN, then call next
  // The next event's JSON text without blocking; nullopt: none yet. kUnavailable at the end.
  [[nodiscard]] Result<std::optional<std::string>> next();
  [[nodiscard]] Result<std::string> wait(Deadline deadline);

 private:
  friend class Sandbox;
  struct Impl;
  explicit EventStream(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

enum class Lifetime : std::uint8_t {
  kDetached,  // runs on when the creating program ends
  kAttached,  // stops in order when the handle is destroyed or its process dies, even by SIGKILL
};

struct StartOptions {
  Lifetime lifetime = Lifetime::kDetached;
  Deadline deadline;  // for the guest to be ready; nullopt: two minutes
};
struct CreateOptions {
  StartOptions start;
  bool boot = true;  // false: only prepare the directory
  // The command of a detached run: started at every start, its end ends the sandbox. Its argv holds what
  // follows the image on a command line; entrypoint and command of spec and image are applied as in
  // command().
  std::optional<ExecSpec> main;
  bool quiet = false;  // no progress on stderr while an image is fetched
  std::function<void()>
      on_boot;  // told when all is prepared and the machine is about to be started; may be empty
};

struct StopOptions {
  std::optional<std::int64_t> grace_ms;  // nullopt: the spec's stop_timeout
  bool force = false;                    // no grace: power off now, unsynced data may be lost
  Deadline deadline;
};

// A handle on one sandbox by name. Destroying it does nothing to the sandbox, except to an attached one.
class Sandbox {
 public:
  Sandbox(Sandbox&&) noexcept;
  Sandbox& operator=(Sandbox&&) noexcept;
  ~Sandbox();

  // Makes the sandbox and (unless told otherwise) boots it. A failure leaves the name free; what the machine
  // said is kept under $MSB_HOME/failed/NAME. kExists when the name is taken.
  [[nodiscard]] static Result<Sandbox> create(const Home& home, SandboxSpec spec,
                                              const CreateOptions& options);
  // kNotFound when there is none of that name.
  [[nodiscard]] static Result<Sandbox> open(const Home& home, std::string_view name);

  [[nodiscard]] const std::string& name() const;
  // What it is and how it stands, derived from its files and processes now.
  [[nodiscard]] Result<SandboxInfo> info() const;

  // kExists when it runs already.
  [[nodiscard]] Status start(const StartOptions& options);
  // Returns when the guest has synced its disks and powered off. Success when it is not running.
  [[nodiscard]] Status stop(const StopOptions& options);
  // Waits for the end of the current run; at once when it is not running.
  [[nodiscard]] Result<Ending> wait(Deadline deadline);
  // Deletes it. kBusy when it runs and `force` is false.
  [[nodiscard]] Status remove(bool force);
  // For an ephemeral sandbox whose command has ended: ends its machine without syncing anything and deletes
  // it.
  [[nodiscard]] Status discard();
  // Starts the idle period anew.
  [[nodiscard]] Status touch();
  // Asks the running sandbox's network proxy; `request` and answer are JSON objects (docs/network.md).
  [[nodiscard]] Result<std::string> net(const std::string& request, Deadline deadline);
  // Round trip to the guest's agent.
  [[nodiscard]] Result<Duration> ping(Deadline deadline);

  // What `msb run IMAGE words...` runs in it: the entrypoint (spec over image), then the words, or the
  // command (spec over image) when there are none. Empty when the image names nothing.
  [[nodiscard]] Result<std::vector<std::string>> command(const std::vector<std::string>& words) const;

  [[nodiscard]] Result<ExecSession> exec(const ExecSpec& spec);
  // Runs to the end and collects at most `max_output` bytes of each stream. A command that could not be
  // started is an Error with the code of its kind (kNotFound, kPermission, ...).
  [[nodiscard]] Result<ExecResult> run(const ExecSpec& spec, std::string_view input, Deadline deadline,
                                       std::size_t max_output = std::size_t{16} << 20);
  // Continues a detachable command; `session` 0 means the only one that runs, else the only one that has
  // ended.
  [[nodiscard]] Result<ExecSession> attach(std::uint64_t session, bool steal);
  [[nodiscard]] Result<std::vector<SessionSummary>> sessions();
  // Signals the process group of one session; 0: of every running one.
  [[nodiscard]] Status signal(std::uint64_t session, int signal);
  // What happens to it from now on.
  [[nodiscard]] Result<EventStream> events();

  // Files in the guest, through its agent.
  [[nodiscard]] Result<std::string> read_file(const std::string& path, std::size_t max_bytes);
  // Replaces the file as a whole, atomically.
  [[nodiscard]] Status write_file(const std::string& path, std::string_view data, std::uint32_t mode = 0644);
  // Trees, as cp -a does: modes, times, links and (as root on the reading side) owners are kept.
  [[nodiscard]] Status copy_in(const std::string& host_path, const std::string& guest_path);
  [[nodiscard]] Status copy_out(const std::string& guest_path, const std::string& host_path);

  // Descriptor of the sandbox's directory, borrowed: logs/ and run/ are below it.
  [[nodiscard]] int directory_fd() const;

 private:
  struct Impl;
  explicit Sandbox(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace msb::supervisor
