// SPDX-License-Identifier: Apache-2.0
// The messages between host and guest agent. File operations stand in proto/file_ops.h, the boot
// configuration in proto/guest_config.h; docs/protocol.md tells the conversations.
//
// Versioning, in both directions:
// - What one side asks of the other (REQUEST, SIGNAL, RESIZE, SHUTDOWN, CLOCK, boot configuration) is strict:
// an
//   unknown key is refused, because ignoring what was asked for would be wrong. A newer client learns from
//   the HELLO what the agent understands.
// - What one side tells the other (HELLO, REPLY, ERROR, EXIT, STARTED, READY, EVENT) may gain keys: unknown
// ones
//   are ignored.
// - HELLO carries the newest and the oldest version a side speaks; the conversation uses the newest both
// speak.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/bytes.h"
#include "base/json.h"
#include "base/result.h"
#include "base/wire.h"
#include "proto/file_ops.h"
#include "proto/json_fields.h"

namespace msb::proto {

inline constexpr std::uint32_t kReadyPort = 1;     // guest to host: the agent's control channel
inline constexpr std::uint32_t kAgentPort = 1024;  // host to guest: one connection per operation
inline constexpr std::uint64_t kAgentVersion = 1;
inline constexpr std::uint64_t kAgentMinVersion = 1;

// HELLO: the first frame each way. A client may send its request right behind it.
struct Hello {
  std::uint64_t version = kAgentVersion;
  std::uint64_t min = kAgentMinVersion;
  std::string agent;  // program and version, for people
  void write(JsonWriter& out) const;
  [[nodiscard]] static Result<Hello> parse(const JsonView& value);
};
// The version two sides use; kUnsupported when they share none.
[[nodiscard]] Result<std::uint64_t> negotiate(const Hello& ours, const Hello& theirs);

// ERROR: the request failed; the last frame of the connection.
// Codes of exec: not_found, not_executable, permission, bad_cwd, bad_user, bad_args, limit, no_memory, other.
// Everything else uses the names of msb::Errc (errc_name).
struct ErrorReply {
  std::string code;
  int sys_errno = 0;  // the guest's errno, 0 when none is meant
  std::string stage;  // what was being done: "exec", "chdir", "user", "open", ...
  std::string text;   // for people
  void write(JsonWriter& out) const;
  [[nodiscard]] static Result<ErrorReply> parse(const JsonView& value);
};

struct TtySize {
  std::uint16_t rows = 24;
  std::uint16_t cols = 80;
  bool operator==(const TtySize&) const = default;
};

// A resource limit by its name in lower case without RLIMIT_ ("nofile"). nullopt: unlimited ("unlimited" in
// JSON).
struct ResourceLimit {
  std::string resource;
  std::optional<std::uint64_t> soft;
  std::optional<std::uint64_t> hard;
  void write(JsonWriter& out) const;
  [[nodiscard]] static Result<ResourceLimit> parse(const JsonView& value);
  bool operator==(const ResourceLimit&) const = default;
};
// The RLIMIT_ number of a name, nullopt if there is none such.
[[nodiscard]] std::optional<int> resource_number(std::string_view name);

// REQUEST {"op":"exec"}: start a command. Answer: STARTED or ERROR; then STDOUT and STDERR until EXIT.
struct ExecRequest {
  std::vector<std::string>
      argv;  // at least one; argv[0] is searched in PATH of the session when it has no slash
  std::vector<std::string> env;  // "KEY=value"; later entries win
  bool image_defaults =
      true;  // start from the boot configuration's env, user and workdir; false: nothing but what is here
  std::string cwd;   // empty: default (workdir, else "/")
  std::string user;  // "", "name", "uid", each with ":group" or ":gid"; empty: default (else root)
  std::vector<std::string> groups;  // supplementary groups added to those of the user, names or numbers
  std::vector<ResourceLimit> rlimits;
  struct Tty {
    TtySize size;
    std::string term;  // TERM; empty leaves the environment as it is
    bool operator==(const Tty&) const = default;
  };
  std::optional<Tty> tty;   // a pseudo-terminal instead of three pipes
  bool stdin_open = false;  // "stdin": STDIN frames will come; otherwise /dev/null (or a tty without input)
  std::uint64_t timeout_ms = 0;       // 0: none; then SIGKILL to the process group
  std::string name;                   // for people
  bool detachable = false;            // the session outlives its connection
  bool log = false;                   // its output is also sent as LOG on the control channel
  void write(JsonWriter& out) const;  // with "op"
  [[nodiscard]] static Result<ExecRequest> parse(const JsonView& value);
  bool operator==(const ExecRequest&) const = default;
};

// REQUEST {"op":"attach"}: continue a detachable session. Answer: STARTED, buffered output, then live until
// EXIT.
struct AttachRequest {
  std::uint64_t session = 0;
  std::optional<std::uint64_t>
      from;            // output byte to start at (see Started::from); absent: all that is buffered
  bool steal = false;  // take over from a client that is attached now
  void write(JsonWriter& out) const;
  [[nodiscard]] static Result<AttachRequest> parse(const JsonView& value);
};
// REQUEST {"op":"sessions"} -> REPLY SessionList.
struct SessionsRequest {
  void write(JsonWriter& out) const;
  [[nodiscard]] static Result<SessionsRequest> parse(const JsonView& value);
};
// REQUEST {"op":"kill"}: signal to the process group of a session -> REPLY {}.
struct KillRequest {
  std::uint64_t session = 0;
  int signal = 15;
  void write(JsonWriter& out) const;
  [[nodiscard]] static Result<KillRequest> parse(const JsonView& value);
};
// REQUEST {"op":"info"} -> REPLY GuestInfo. Also on the control channel.
struct InfoRequest {
  void write(JsonWriter& out) const;
  [[nodiscard]] static Result<InfoRequest> parse(const JsonView& value);
};
// REQUEST {"op":"ping"} -> REPLY {}.
struct PingRequest {
  void write(JsonWriter& out) const;
  [[nodiscard]] static Result<PingRequest> parse(const JsonView& value);
};

struct Request {
  std::variant<ExecRequest, AttachRequest, SessionsRequest, KillRequest, InfoRequest, PingRequest,
               FileRequest>
      op;
  void write(JsonWriter& out) const;
  // kUnsupported for an op that this version does not know.
  [[nodiscard]] static Result<Request> parse(const JsonView& value);
};

// STARTED. For an attach, output starts at byte `from` of all the session ever wrote (stdout and stderr
// counted together); what lay between the asked-for byte and `from` is lost.
struct Started {
  std::uint64_t session = 0;
  std::int64_t pid = 0;
  std::uint64_t from = 0;
  bool tty = false;
  void write(JsonWriter& out) const;
  [[nodiscard]] static Result<Started> parse(const JsonView& value);
};

// EXIT: exactly one of code and signal.
struct Exit {
  std::optional<int> code;    // 0..255
  std::optional<int> signal;  // 1..64
  bool core = false;
  bool timed_out = false;  // ended by ExecRequest::timeout_ms
  [[nodiscard]] static Exit from_wait_status(int status);
  void write(JsonWriter& out) const;
  [[nodiscard]] static Result<Exit> parse(const JsonView& value);
  bool operator==(const Exit&) const = default;
};

// SIGNAL: to the process group of the session of this connection.
struct SignalMessage {
  int signal = 0;
  void write(JsonWriter& out) const;
  [[nodiscard]] static Result<SignalMessage> parse(const JsonView& value);
};
// RESIZE: of the session's pseudo-terminal.
struct Resize {
  TtySize size;
  void write(JsonWriter& out) const;
  [[nodiscard]] static Result<Resize> parse(const JsonView& value);
};

struct SessionInfo {
  std::uint64_t id = 0;
  std::int64_t pid = 0;
  std::string name;
  std::vector<std::string> argv;  // cut to a readable length
  std::string user;
  bool tty = false;
  bool detachable = false;
  bool attached = false;
  std::int64_t started_ns = 0;   // guest's wall clock
  std::uint64_t output_end = 0;  // bytes of output so far
  std::optional<Exit> exit;      // ended, kept until someone has fetched it
  void write(JsonWriter& out) const;
  [[nodiscard]] static Result<SessionInfo> parse(const JsonView& value);
};
struct SessionList {
  std::vector<SessionInfo> sessions;
  bool truncated = false;  // more sessions than fit into one frame
  void write(JsonWriter& out) const;
  [[nodiscard]] static Result<SessionList> parse(const JsonView& value);
};

// REPLY to info. Counters only ever grow: whoever wants to know if the guest is idle compares two.
struct GuestInfo {
  std::uint64_t uptime_ns = 0;
  std::uint64_t cpu_busy_ns = 0;   // all processors, all but idle and I/O wait
  std::uint64_t load_milli = 0;    // one-minute load average times 1000
  std::uint64_t memory_total = 0;  // bytes
  std::uint64_t memory_available = 0;
  std::uint64_t processes = 0;
  std::uint64_t sessions = 0;    // running
  std::uint64_t operations = 0;  // requests served since boot, info and ping not counted
  std::uint64_t net_bytes = 0;   // received and sent on the interface
  std::uint64_t oom_kills = 0;
  void write(JsonWriter& out) const;
  [[nodiscard]] static Result<GuestInfo> parse(const JsonView& value);
};

// READY, on the control channel: the guest takes requests. Times are nanoseconds since the kernel's clock
// started.
struct Ready {
  std::uint64_t agent_started_ns = 0;  // first line of the agent
  std::uint64_t mounted_ns = 0;        // root filesystem in place
  std::uint64_t ready_ns = 0;          // this message
  std::string kernel;                  // release
  std::vector<std::string> warnings;   // what was asked for and did not work, yet does not prevent working
  void write(JsonWriter& out) const;
  [[nodiscard]] static Result<Ready> parse(const JsonView& value);
};
// SHUTDOWN, host to guest on the control channel: end every session, sync, unmount; answered by
// SHUTDOWN_DONE.
struct Shutdown {
  std::uint64_t grace_ms = 10'000;
  int signal = 0;  // 0: the configured stop signal
  void write(JsonWriter& out) const;
  [[nodiscard]] static Result<Shutdown> parse(const JsonView& value);
};
// CLOCK, host to guest on the control channel: set the wall clock (after a pause or a restore).
struct ClockMessage {
  std::int64_t wall_ns = 0;
  void write(JsonWriter& out) const;
  [[nodiscard]] static Result<ClockMessage> parse(const JsonView& value);
};
// EVENT on the control channel.
struct ControlEvent {
  enum class Kind : std::uint8_t { kOom, kSessionStarted, kSessionExited };
  Kind kind = Kind::kOom;
  std::uint64_t count = 0;    // oom: kills so far
  std::uint64_t session = 0;  // session events, sent for sessions with `log` only
  std::string name;
  std::optional<Exit> exit;
  void write(JsonWriter& out) const;
  [[nodiscard]] static Result<ControlEvent> parse(const JsonView& value);
};

// LOG payload: this header, then the bytes.
enum class LogStream : std::uint8_t { kStdout = 1, kStderr = 2, kTty = 3 };
struct LogHeader {
  Le64 session;
  Le64 dropped;  // bytes of this session lost just before these, because the host was slow
  std::uint8_t stream = 0;
  std::uint8_t reserved[7] = {};
};
static_assert(sizeof(LogHeader) == 24 && WireStruct<LogHeader>);
struct LogRecord {
  std::uint64_t session = 0;
  std::uint64_t dropped = 0;
  LogStream stream = LogStream::kStdout;
  ByteView data;  // borrowed from the payload
};
void append_log_frame(Bytes& out, const LogRecord& record);
[[nodiscard]] Result<LogRecord> parse_log(ByteView payload);

}  // namespace msb::proto
