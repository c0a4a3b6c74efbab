// SPDX-License-Identifier: Apache-2.0
#include "proto/agent.h"

#include <sys/resource.h>
#include <sys/wait.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "proto/frame.h"

namespace msb::proto {
namespace {

constexpr std::uint64_t kMaxU16 = 0xffff;
constexpr int kMaxSignal = 64;

struct ResourceName {
  std::string_view name;
  int number;
};
constexpr std::array<ResourceName, 16> kResources{{{"as", RLIMIT_AS},
                                                   {"core", RLIMIT_CORE},
                                                   {"cpu", RLIMIT_CPU},
                                                   {"data", RLIMIT_DATA},
                                                   {"fsize", RLIMIT_FSIZE},
                                                   {"locks", RLIMIT_LOCKS},
                                                   {"memlock", RLIMIT_MEMLOCK},
                                                   {"msgqueue", RLIMIT_MSGQUEUE},
                                                   {"nice", RLIMIT_NICE},
                                                   {"nofile", RLIMIT_NOFILE},
                                                   {"nproc", RLIMIT_NPROC},
                                                   {"rss", RLIMIT_RSS},
                                                   {"rtprio", RLIMIT_RTPRIO},
                                                   {"rttime", RLIMIT_RTTIME},
                                                   {"sigpending", RLIMIT_SIGPENDING},
                                                   {"stack", RLIMIT_STACK}}};

void write_limit(JsonWriter& out, std::string_view key, const std::optional<std::uint64_t>& limit) {
  if (limit) {
    out.field(key, *limit);
  } else {
    out.field(key, "unlimited");
  }
}

Result<std::optional<std::uint64_t>> parse_limit(const JsonView& object, std::string_view key) {
  MSB_ASSIGN(const JsonView member, object.at(key));
  if (member.is_string()) {
    if (*member.as_string() != "unlimited") return invalid_value(member, "must be a number or \"unlimited\"");
    return std::optional<std::uint64_t>();
  }
  MSB_ASSIGN(const std::uint64_t value, member.as_uint(UINT64_MAX - 1));
  return std::optional<std::uint64_t>(value);
}

Result<TtySize> parse_size(const JsonView& value) {
  TtySize size;
  MSB_ASSIGN(const std::uint64_t rows, value.get_uint("rows", kMaxU16));
  MSB_ASSIGN(const std::uint64_t cols, value.get_uint("cols", kMaxU16));
  size.rows = static_cast<std::uint16_t>(rows);
  size.cols = static_cast<std::uint16_t>(cols);
  return size;
}

Result<int> parse_signal(const JsonView& object, std::string_view key) {
  MSB_ASSIGN(const JsonView member, object.at(key));
  MSB_ASSIGN(const std::int64_t signal, member.as_int(1, kMaxSignal));
  return static_cast<int>(signal);
}

template <typename Message>
void write_exit_member(JsonWriter& out, const std::optional<Message>& exit) {
  if (!exit) return;
  out.key("exit");
  exit->write(out);
}

Result<std::optional<Exit>> parse_exit_member(const JsonView& value) {
  const auto member = value.find("exit");
  if (!member) return std::optional<Exit>();
  MSB_ASSIGN(Exit exit, Exit::parse(*member));
  return std::optional<Exit>(exit);
}

}  // namespace

void Hello::write(JsonWriter& out) const {
  out.begin_object().field("version", version).field("min", min).field("agent", agent).end_object();
}
Result<Hello> Hello::parse(const JsonView& value) {
  Hello hello;
  MSB_ASSIGN(hello.version, value.get_uint("version", 1'000'000));
  MSB_ASSIGN(hello.min, value.get_uint_or("min", hello.version, 1'000'000));
  MSB_ASSIGN(hello.agent, value.get_string_or("agent", ""));
  if (hello.min > hello.version) return invalid_value(value, "\"min\" is above \"version\"");
  return hello;
}

Result<std::uint64_t> negotiate(const Hello& ours, const Hello& theirs) {
  const std::uint64_t version = std::min(ours.version, theirs.version);
  if (version < ours.min || version < theirs.min) {
    return make_error(
        Errc::kUnsupported, "agree on a protocol version: we speak %llu to %llu, the peer %llu to %llu",
        static_cast<unsigned long long>(ours.min), static_cast<unsigned long long>(ours.version),
        static_cast<unsigned long long>(theirs.min), static_cast<unsigned long long>(theirs.version));
  }
  return version;
}

void ErrorReply::write(JsonWriter& out) const {
  out.begin_object().field("code", code).field("errno", sys_errno).field("stage", stage);
  write_byte_field(out, "text", text);
  out.end_object();
}
Result<ErrorReply> ErrorReply::parse(const JsonView& value) {
  ErrorReply error;
  MSB_ASSIGN(error.code, value.get_string("code"));
  MSB_ASSIGN(const std::int64_t number, value.get_int_or("errno", 0));
  if (number < 0 || number > 4095) return invalid_value(value, "\"errno\" is not an errno");
  error.sys_errno = static_cast<int>(number);
  MSB_ASSIGN(error.stage, value.get_string_or("stage", ""));
  MSB_ASSIGN(error.text, get_byte_string_or(value, "text", ""));
  return error;
}

std::optional<int> resource_number(std::string_view name) {
  for (const ResourceName& resource : kResources) {
    if (resource.name == name) return resource.number;
  }
  return std::nullopt;
}

void ResourceLimit::write(JsonWriter& out) const {
  out.begin_object().field("resource", resource);
  write_limit(out, "soft", soft);
  write_limit(out, "hard", hard);
  out.end_object();
}
Result<ResourceLimit> ResourceLimit::parse(const JsonView& value) {
  MSB_TRY(value.only_keys({"resource", "soft", "hard"}));
  ResourceLimit limit;
  MSB_ASSIGN(limit.resource, value.get_string("resource"));
  if (!resource_number(limit.resource))
    return invalid_value(value, "unknown resource \"" + limit.resource + "\"");
  MSB_ASSIGN(limit.soft, parse_limit(value, "soft"));
  MSB_ASSIGN(limit.hard, parse_limit(value, "hard"));
  if (limit.hard && (!limit.soft || *limit.soft > *limit.hard))
    return invalid_value(value, "soft is above hard");
  return limit;
}

void ExecRequest::write(JsonWriter& out) const {
  out.begin_object().field("op", "exec");
  write_bytes_field(out, "argv", argv);
  if (!env.empty()) write_bytes_field(out, "env", env);
  if (!image_defaults) out.field("image_defaults", false);
  if (!cwd.empty()) write_byte_field(out, "cwd", cwd);
  if (!user.empty()) write_byte_field(out, "user", user);
  if (!groups.empty()) write_bytes_field(out, "groups", groups);
  if (!rlimits.empty()) {
    out.key("rlimits").begin_array();
    for (const ResourceLimit& limit : rlimits) limit.write(out);
    out.end_array();
  }
  if (tty) {
    out.key("tty").begin_object().field("rows", tty->size.rows).field("cols", tty->size.cols);
    write_byte_field(out, "term", tty->term);
    out.end_object();
  }
  if (stdin_open) out.field("stdin", true);
  if (timeout_ms != 0) out.field("timeout_ms", timeout_ms);
  if (!name.empty()) write_byte_field(out, "name", name);
  if (detachable) out.field("detachable", true);
  if (log) out.field("log", true);
  out.end_object();
}

Result<ExecRequest> ExecRequest::parse(const JsonView& value) {
  MSB_TRY(value.only_keys({"op", "argv", "env", "image_defaults", "cwd", "user", "groups", "rlimits", "tty",
                           "stdin", "timeout_ms", "name", "detachable", "log"}));
  ExecRequest request;
  MSB_ASSIGN(const JsonView argv_value, value.at("argv"));
  MSB_ASSIGN(request.argv, parse_byte_strings(argv_value));
  if (request.argv.empty()) return invalid_value(argv_value, "is empty");
  MSB_ASSIGN(request.env, get_byte_strings_or_empty(value, "env"));
  for (const std::string& entry : request.env) {
    if (entry.find('=') == std::string::npos || entry.front() == '=') {
      return invalid_value(value, "an entry of \"env\" is not KEY=value");
    }
  }
  MSB_ASSIGN(request.image_defaults, value.get_bool_or("image_defaults", true));
  MSB_ASSIGN(request.cwd, get_byte_string_or(value, "cwd", ""));
  MSB_ASSIGN(request.user, get_byte_string_or(value, "user", ""));
  MSB_ASSIGN(request.groups, get_byte_strings_or_empty(value, "groups"));
  if (const auto limits = value.find("rlimits")) {
    MSB_ASSIGN(const std::vector<JsonView> elements, limits->elements());
    for (const JsonView& element : elements) {
      MSB_ASSIGN(ResourceLimit limit, ResourceLimit::parse(element));
      request.rlimits.push_back(std::move(limit));
    }
  }
  if (const auto tty_value = value.find("tty")) {
    MSB_TRY(tty_value->only_keys({"rows", "cols", "term"}));
    Tty tty;
    MSB_ASSIGN(tty.size, parse_size(*tty_value));
    MSB_ASSIGN(tty.term, get_byte_string_or(*tty_value, "term", ""));
    request.tty = std::move(tty);
  }
  MSB_ASSIGN(request.stdin_open, value.get_bool_or("stdin", false));
  MSB_ASSIGN(request.timeout_ms, value.get_uint_or("timeout_ms", 0, std::uint64_t{1} << 52));
  MSB_ASSIGN(request.name, get_byte_string_or(value, "name", ""));
  MSB_ASSIGN(request.detachable, value.get_bool_or("detachable", false));
  MSB_ASSIGN(request.log, value.get_bool_or("log", false));
  return request;
}

void AttachRequest::write(JsonWriter& out) const {
  out.begin_object().field("op", "attach").field("session", session);
  if (from) out.field("from", *from);
  if (steal) out.field("steal", true);
  out.end_object();
}
Result<AttachRequest> AttachRequest::parse(const JsonView& value) {
  MSB_TRY(value.only_keys({"op", "session", "from", "steal"}));
  AttachRequest request;
  MSB_ASSIGN(request.session, value.get_uint("session"));
  MSB_ASSIGN(request.from, get_optional_uint(value, "from"));
  MSB_ASSIGN(request.steal, value.get_bool_or("steal", false));
  return request;
}

void SessionsRequest::write(JsonWriter& out) const {
  out.begin_object().field("op", "sessions").end_object();
}
Result<SessionsRequest> SessionsRequest::parse(const JsonView& value) {
  MSB_TRY(value.only_keys({"op"}));
  return SessionsRequest{};
}

void KillRequest::write(JsonWriter& out) const {
  out.begin_object().field("op", "kill").field("session", session).field("signal", signal).end_object();
}
Result<KillRequest> KillRequest::parse(const JsonView& value) {
  MSB_TRY(value.only_keys({"op", "session", "signal"}));
  KillRequest request;
  MSB_ASSIGN(request.session, value.get_uint("session"));
  MSB_ASSIGN(request.signal, parse_signal(value, "signal"));
  return request;
}

void InfoRequest::write(JsonWriter& out) const { out.begin_object().field("op", "info").end_object(); }
Result<InfoRequest> InfoRequest::parse(const JsonView& value) {
  MSB_TRY(value.only_keys({"op"}));
  return InfoRequest{};
}
void PingRequest::write(JsonWriter& out) const { out.begin_object().field("op", "ping").end_object(); }
Result<PingRequest> PingRequest::parse(const JsonView& value) {
  MSB_TRY(value.only_keys({"op"}));
  return PingRequest{};
}

void Request::write(JsonWriter& out) const {
  std::visit([&](const auto& request) { request.write(out); }, op);
}
Result<Request> Request::parse(const JsonView& value) {
  MSB_ASSIGN(const std::string name, value.get_string("op"));
  const auto wrap = [](auto result) -> Result<Request> {
    if (!result.ok()) return std::move(result).error();
    return Request{std::move(result).value()};
  };
  if (name == "exec") return wrap(ExecRequest::parse(value));
  if (name == "attach") return wrap(AttachRequest::parse(value));
  if (name == "sessions") return wrap(SessionsRequest::parse(value));
  if (name == "kill") return wrap(KillRequest::parse(value));
  if (name == "info") return wrap(InfoRequest::parse(value));
  if (name == "ping") return wrap(PingRequest::parse(value));
  if (const auto file_op = file_op_from_name(name)) return wrap(FileRequest::parse(*file_op, value));
  return make_error(Errc::kUnsupported, "op \"%.40s\" is not known to this version", name.c_str());
}

void Started::write(JsonWriter& out) const {
  out.begin_object()
      .field("session", session)
      .field("pid", pid)
      .field("from", from)
      .field("tty", tty)
      .end_object();
}
Result<Started> Started::parse(const JsonView& value) {
  Started started;
  MSB_ASSIGN(started.session, value.get_uint("session"));
  MSB_ASSIGN(started.pid, value.get_int_or("pid", 0));
  MSB_ASSIGN(started.from, value.get_uint_or("from", 0));
  MSB_ASSIGN(started.tty, value.get_bool_or("tty", false));
  return started;
}

Exit Exit::from_wait_status(int status) {
  Exit exit;
  if (WIFSIGNALED(status)) {
    exit.signal = WTERMSIG(status);
    exit.core = WCOREDUMP(status);
  } else {
    exit.code = WEXITSTATUS(status);
  }
  return exit;
}
void Exit::write(JsonWriter& out) const {
  out.begin_object();
  if (signal) {
    out.field("signal", *signal).field("core", core);
  } else {
    out.field("code", code.value_or(0));
  }
  if (timed_out) out.field("timed_out", true);
  out.end_object();
}
Result<Exit> Exit::parse(const JsonView& value) {
  Exit exit;
  MSB_ASSIGN(const auto code, get_optional_uint(value, "code", 255));
  MSB_ASSIGN(const auto signal, get_optional_uint(value, "signal", kMaxSignal));
  if (code.has_value() == signal.has_value() || signal == 0U) {
    return invalid_value(value, "must hold one of \"code\" and \"signal\"");
  }
  if (code) exit.code = static_cast<int>(*code);
  if (signal) exit.signal = static_cast<int>(*signal);
  MSB_ASSIGN(exit.core, value.get_bool_or("core", false));
  MSB_ASSIGN(exit.timed_out, value.get_bool_or("timed_out", false));
  return exit;
}

void SignalMessage::write(JsonWriter& out) const { out.begin_object().field("signal", signal).end_object(); }
Result<SignalMessage> SignalMessage::parse(const JsonView& value) {
  MSB_TRY(value.only_keys({"signal"}));
  SignalMessage message;
  MSB_ASSIGN(message.signal, parse_signal(value, "signal"));
  return message;
}

void Resize::write(JsonWriter& out) const {
  out.begin_object().field("rows", size.rows).field("cols", size.cols).end_object();
}
Result<Resize> Resize::parse(const JsonView& value) {
  MSB_TRY(value.only_keys({"rows", "cols"}));
  Resize message;
  MSB_ASSIGN(message.size, parse_size(value));
  return message;
}

void SessionInfo::write(JsonWriter& out) const {
  out.begin_object().field("id", id).field("pid", pid);
  write_byte_field(out, "name", name);
  write_bytes_field(out, "argv", argv);
  write_byte_field(out, "user", user);
  out.field("tty", tty).field("detachable", detachable).field("attached", attached);
  out.field("started_ns", started_ns).field("output_end", output_end);
  write_exit_member(out, exit);
  out.end_object();
}
Result<SessionInfo> SessionInfo::parse(const JsonView& value) {
  SessionInfo info;
  MSB_ASSIGN(info.id, value.get_uint("id"));
  MSB_ASSIGN(info.pid, value.get_int_or("pid", 0));
  MSB_ASSIGN(info.name, get_byte_string_or(value, "name", ""));
  MSB_ASSIGN(info.argv, get_byte_strings_or_empty(value, "argv"));
  MSB_ASSIGN(info.user, get_byte_string_or(value, "user", ""));
  MSB_ASSIGN(info.tty, value.get_bool_or("tty", false));
  MSB_ASSIGN(info.detachable, value.get_bool_or("detachable", false));
  MSB_ASSIGN(info.attached, value.get_bool_or("attached", false));
  MSB_ASSIGN(info.started_ns, value.get_int_or("started_ns", 0));
  MSB_ASSIGN(info.output_end, value.get_uint_or("output_end", 0));
  MSB_ASSIGN(info.exit, parse_exit_member(value));
  return info;
}

void SessionList::write(JsonWriter& out) const {
  out.begin_object().key("sessions").begin_array();
  for (const SessionInfo& session : sessions) session.write(out);
  out.end_array();
  if (truncated) out.field("truncated", true);
  out.end_object();
}
Result<SessionList> SessionList::parse(const JsonView& value) {
  SessionList list;
  MSB_ASSIGN(const JsonView array, value.at("sessions"));
  MSB_ASSIGN(const std::vector<JsonView> elements, array.elements());
  for (const JsonView& element : elements) {
    MSB_ASSIGN(SessionInfo info, SessionInfo::parse(element));
    list.sessions.push_back(std::move(info));
  }
  MSB_ASSIGN(list.truncated, value.get_bool_or("truncated", false));
  return list;
}

void GuestInfo::write(JsonWriter& out) const {
  out.begin_object()
      .field("uptime_ns", uptime_ns)
      .field("cpu_busy_ns", cpu_busy_ns)
      .field("load_milli", load_milli);
  out.field("memory_total", memory_total).field("memory_available", memory_available);
  out.field("processes", processes).field("sessions", sessions).field("operations", operations);
  out.field("net_bytes", net_bytes).field("oom_kills", oom_kills).end_object();
}
Result<GuestInfo> GuestInfo::parse(const JsonView& value) {
  GuestInfo info;
  MSB_ASSIGN(info.uptime_ns, value.get_uint_or("uptime_ns", 0));
  MSB_ASSIGN(info.cpu_busy_ns, value.get_uint_or("cpu_busy_ns", 0));
  MSB_ASSIGN(info.load_milli, value.get_uint_or("load_milli", 0));
  MSB_ASSIGN(info.memory_total, value.get_uint_or("memory_total", 0));
  MSB_ASSIGN(info.memory_available, value.get_uint_or("memory_available", 0));
  MSB_ASSIGN(info.processes, value.get_uint_or("processes", 0));
  MSB_ASSIGN(info.sessions, value.get_uint_or("sessions", 0));
  MSB_ASSIGN(info.operations, value.get_uint_or("operations", 0));
  MSB_ASSIGN(info.net_bytes, value.get_uint_or("net_bytes", 0));
  MSB_ASSIGN(info.oom_kills, value.get_uint_or("oom_kills", 0));
  return info;
}

void Ready::write(JsonWriter& out) const {
  out.begin_object().field("agent_started_ns", agent_started_ns).field("mounted_ns", mounted_ns);
  out.field("ready_ns", ready_ns).field("kernel", kernel);
  write_bytes_field(out, "warnings", warnings);
  out.end_object();
}
Result<Ready> Ready::parse(const JsonView& value) {
  Ready ready;
  MSB_ASSIGN(ready.agent_started_ns, value.get_uint_or("agent_started_ns", 0));
  MSB_ASSIGN(ready.mounted_ns, value.get_uint_or("mounted_ns", 0));
  MSB_ASSIGN(ready.ready_ns, value.get_uint_or("ready_ns", 0));
  MSB_ASSIGN(ready.kernel, value.get_string_or("kernel", ""));
  MSB_ASSIGN(ready.warnings, get_byte_strings_or_empty(value, "warnings"));
  return ready;
}

void Shutdown::write(JsonWriter& out) const {
  out.begin_object().field("grace_ms", grace_ms);
  if (signal != 0) out.field("signal", signal);
  out.end_object();
}
Result<Shutdown> Shutdown::parse(const JsonView& value) {
  MSB_TRY(value.only_keys({"grace_ms", "signal"}));
  Shutdown message;
  MSB_ASSIGN(message.grace_ms, value.get_uint_or("grace_ms", message.grace_ms, 86'400'000));
  MSB_ASSIGN(const std::uint64_t signal, value.get_uint_or("signal", 0, kMaxSignal));
  message.signal = static_cast<int>(signal);
  return message;
}

void ClockMessage::write(JsonWriter& out) const { out.begin_object().field("wall_ns", wall_ns).end_object(); }
Result<ClockMessage> ClockMessage::parse(const JsonView& value) {
  MSB_TRY(value.only_keys({"wall_ns"}));
  ClockMessage message;
  MSB_ASSIGN(const JsonView member, value.at("wall_ns"));
  MSB_ASSIGN(message.wall_ns, member.as_int(0));
  return message;
}

void ControlEvent::write(JsonWriter& out) const {
  out.begin_object();
  switch (kind) {
    case Kind::kOom:
      out.field("event", "oom").field("count", count);
      break;
    case Kind::kSessionStarted:
    case Kind::kSessionExited:
      out.field("event", kind == Kind::kSessionStarted ? "session_started" : "session_exited");
      out.field("session", session);
      write_byte_field(out, "name", name);
      write_exit_member(out, exit);
      break;
  }
  out.end_object();
}
Result<ControlEvent> ControlEvent::parse(const JsonView& value) {
  ControlEvent event;
  MSB_ASSIGN(const std::string kind, value.get_string("event"));
  if (kind == "oom") {
    event.kind = Kind::kOom;
  } else if (kind == "session_started") {
    event.kind = Kind::kSessionStarted;
  } else if (kind == "session_exited") {
    event.kind = Kind::kSessionExited;
  } else {
    return invalid_value(value, "unknown event \"" + kind + "\"");
  }
  MSB_ASSIGN(event.count, value.get_uint_or("count", 0));
  MSB_ASSIGN(event.session, value.get_uint_or("session", 0));
  MSB_ASSIGN(event.name, get_byte_string_or(value, "name", ""));
  MSB_ASSIGN(event.exit, parse_exit_member(value));
  return event;
}

void append_log_frame(Bytes& out, const LogRecord& record) {
  LogHeader header;
  header.session = record.session;
  header.dropped = record.dropped;
  header.stream = static_cast<std::uint8_t>(record.stream);
  const FrameHeader frame = make_header(FrameType::kLog, sizeof header + record.data.size());
  const auto put = [&](const void* from, std::size_t size) {
    const auto* raw = static_cast<const std::uint8_t*>(from);
    out.insert(out.end(), raw, raw + size);
  };
  put(&frame, sizeof frame);
  put(&header, sizeof header);
  put(record.data.data(), record.data.size());
}

Result<LogRecord> parse_log(ByteView payload) {
  LogHeader header;
  if (payload.size() < sizeof header)
    return make_error(Errc::kProtocol, "read LOG: %zu bytes", payload.size());
  std::memcpy(&header, payload.data(), sizeof header);
  if (header.stream < 1 || header.stream > 3) {
    return make_error(Errc::kProtocol, "read LOG: unknown stream %u", unsigned{header.stream});
  }
  LogRecord record;
  record.session = header.session.get();
  record.dropped = header.dropped.get();
  record.stream = static_cast<LogStream>(header.stream);
  record.data = payload.subspan(sizeof header);
  return record;
}

}  // namespace msb::proto
