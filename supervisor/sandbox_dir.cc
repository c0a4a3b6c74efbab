// SPDX-License-Identifier: Apache-2.0
#include "supervisor/sandbox_dir.h"

#include <fcntl.h>

#include <algorithm>
#include <array>

#include "base/file.h"
#include "base/file_lock.h"
#include "base/json.h"
#include "supervisor/quantities.h"
#include "supervisor/spec_json.h"

namespace msb::supervisor {
namespace {

constexpr std::size_t kMaxRecordBytes = std::size_t{16} << 20;
constexpr std::size_t kMaxStateBytes = std::size_t{256} << 10;

// Reads a member of a state file that may have any type: state files come from other versions of msb.
std::string loose_string(const JsonView& object, std::string_view key) {
  auto value = object.get_string_or(key, "");
  return value.ok() ? std::move(value).value() : std::string{};
}
std::uint64_t loose_uint(const JsonView& object, std::string_view key) {
  return object.get_uint_or(key, 0).value_or(0);
}
std::int64_t loose_int(const JsonView& object, std::string_view key) {
  return object.get_int_or(key, 0).value_or(0);
}
std::optional<int> loose_small(const JsonView& object, std::string_view key) {
  const auto member = object.find(key);
  if (!member) return std::nullopt;
  auto value = member->as_int(0, 1 << 16);
  return value.ok() ? std::optional<int>(static_cast<int>(*value)) : std::nullopt;
}

Ending read_ending(const JsonView& view) {
  Ending ending;
  ending.reason = loose_string(view, "reason");
  ending.detail = loose_string(view, "detail");
  ending.code = loose_small(view, "code");
  ending.signal = loose_small(view, "signal");
  ending.at_ns = loose_int(view, "at_ns");
  return ending;
}

}  // namespace

std::string record_to_json(const SandboxRecord& record) {
  JsonWriter out;
  out.begin_object().field("version", 1).field("created_ns", record.created_ns);
  out.key("image").begin_object();
  out.field("reference", record.image_reference).field("manifest_digest", record.manifest_digest);
  out.field("file", record.image_file).end_object();
  out.key("spec").raw(spec_to_json(record.spec));
  if (!record.main_json.empty()) out.key("main").raw(record.main_json);
  out.end_object();
  return std::move(out).take();
}

namespace {

Result<JsonDocument> parse_record(std::string_view json) {
  MSB_ASSIGN(JsonDocument document, JsonDocument::parse(json, {.max_bytes = kMaxRecordBytes}));
  MSB_ASSIGN(const std::uint64_t version, document.root().get_uint("version"));
  if (version < 1)
    return make_error(Errc::kCorrupt, "version %llu is none", static_cast<unsigned long long>(version));
  return document;
}

}  // namespace

Result<SandboxRecord> record_from_json(std::string_view json) {
  MSB_ASSIGN(const JsonDocument document, parse_record(json));
  const JsonView root = document.root();
  SandboxRecord record;
  MSB_ASSIGN(record.created_ns, root.get_int_or("created_ns", 0));
  MSB_ASSIGN(const JsonView image, root.at("image"));
  MSB_ASSIGN(record.image_reference, image.get_string("reference"));
  MSB_ASSIGN(record.manifest_digest, image.get_string("manifest_digest"));
  MSB_ASSIGN(record.image_file, image.get_string_or("file", ""));
  MSB_ASSIGN(const JsonView spec, root.at("spec"));
  MSB_ASSIGN(record.spec, spec_from_view(spec, UnknownKeys::kIgnore));
  if (const auto main = root.find("main")) record.main_json = main->dump();
  return record;
}

Result<RecordSummary> record_summary_from_json(std::string_view json) {
  MSB_ASSIGN(const JsonDocument document, parse_record(json));
  RecordSummary out;
  MSB_ASSIGN(out.created_ns, document.root().get_int_or("created_ns", 0));
  MSB_ASSIGN(const JsonView spec, document.root().at("spec"));
  MSB_ASSIGN(out.image, spec.get_string_or("image", ""));
  MSB_ASSIGN(out.labels, labels_from_view(spec));
  return out;
}

StateFile state_from_json(std::string_view json) {
  StateFile out;
  auto document = JsonDocument::parse(json, {.max_bytes = kMaxStateBytes});
  if (!document.ok()) return out;
  const JsonView root = document->root();
  if (!root.is_object()) return out;
  out.state = loose_string(root, "state");
  out.boot_id = loose_string(root, "boot_id");
  out.pid = static_cast<pid_t>(std::min<std::uint64_t>(loose_uint(root, "pid"), INT32_MAX));
  out.start_time = loose_uint(root, "start_time");
  out.started_ns = loose_int(root, "started_ns");
  if (const auto end = root.find("end"); end && end->is_object()) {
    out.ending = read_ending(*end);
  }
  return out;
}

Result<std::string> read_record(int dir_fd, const std::string& path) {
  MSB_ASSIGN(const UniqueFd fd, open_at(dir_fd, path, O_RDONLY | O_NOFOLLOW));
  return read_all(fd.get(), kMaxRecordBytes);
}

Result<StateFile> read_state(int dir_fd, const std::string& path) {
  const auto fd = open_at(dir_fd, path, O_RDONLY | O_NOFOLLOW);
  if (!fd.ok() && fd.error().code == Errc::kNotFound) return StateFile{};
  if (!fd.ok()) return Error(fd.error());
  MSB_ASSIGN(const std::string text, read_all(fd->get(), kMaxStateBytes));
  return state_from_json(text);
}

std::optional<Ending> ending_from_json(std::string_view json) {
  const auto document = JsonDocument::parse(json, {.max_bytes = kMaxStateBytes});
  if (!document.ok() || !document->root().is_object()) return std::nullopt;
  Ending ending = read_ending(document->root());
  return ending.reason.empty() ? std::nullopt : std::optional<Ending>(std::move(ending));
}

Result<std::string> boot_id() {
  MSB_ASSIGN(std::string text, read_file("/proc/sys/kernel/random/boot_id", 64));
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return text;
}

Result<bool> is_alive(pid_t pid, std::uint64_t start_time) {
  if (pid <= 0) return false;
  const auto text = read_file("/proc/" + std::to_string(pid) + "/stat", 4096);
  if (!text.ok()) {
    const Error& error = text.error();
    if (error.sys_errno == ENOENT || error.sys_errno == ESRCH) return false;
    return Error(error);
  }
  // "PID (NAME) STATE ..." where NAME may hold anything: fields are counted from its last parenthesis.
  const auto close = text->rfind(')');
  if (close == std::string::npos || close + 2 >= text->size()) return false;
  const char state = (*text)[close + 2];
  if (state == 'Z' || state == 'X' || state == 'x') return false;
  std::string_view rest = std::string_view(*text).substr(close + 2);
  for (int field = 3; field < 22; ++field) {
    const auto space = rest.find(' ');
    if (space == std::string_view::npos) return false;
    rest.remove_prefix(space + 1);
  }
  const auto started = parse_decimal(rest.substr(0, rest.find(' ')));
  return started && *started == start_time;
}

Result<DerivedState> derive_state(const StateFile& file) {
  DerivedState out;
  out.ending = file.ending;
  if (file.state.empty()) return out;
  if (file.state == "stopped") {
    out.state = State::kStopped;
    return out;
  }
  // It claims to live.
  bool other_boot = false;
  if (!file.boot_id.empty()) {
    MSB_ASSIGN(const std::string now, boot_id());
    other_boot = file.boot_id != now;
  }
  if (other_boot) {
    out.state = State::kCrashed;
    out.ending = Ending{.reason = "host_reboot", .detail = "the host restarted while it ran"};
    return out;
  }
  MSB_ASSIGN(const bool alive, is_alive(file.pid, file.start_time));
  if (!alive) {
    out.state = State::kCrashed;
    out.ending = Ending{.reason = "crashed", .detail = "its process ended without a last word"};
    return out;
  }
  out.ending.reset();
  if (file.state == "starting") {
    out.state = State::kStarting;
  } else if (file.state == "paused") {
    out.state = State::kPaused;
  } else if (file.state == "stopping") {
    out.state = State::kStopping;
  } else {
    out.state = State::kRunning;
  }
  return out;
}

namespace {

Status lock_until(int fd, const std::string& name, Deadline deadline) {
  auto locked = lock_exclusively(fd, deadline);
  if (!locked) return std::move(locked).error().with_context(name);
  if (!*locked) return make_error(Errc::kBusy, "another command works on it");
  return {};
}

}  // namespace

Status wait_for_end(int dir_fd, Deadline deadline) {
  const auto fd = open_at(dir_fd, "lock", O_RDWR | O_NOFOLLOW);
  if (!fd.ok()) {
    // Never started, or an ephemeral one that has removed itself.
    return fd.error().code == Errc::kNotFound ? Status{} : Status(fd.error());
  }
  return lock_until(fd->get(), "lock", deadline);
}

Result<UniqueFd> lock_file(int dir_fd, const std::string& name, Deadline deadline) {
  MSB_ASSIGN(UniqueFd fd, open_at(dir_fd, name, O_RDWR | O_CREAT | O_NOFOLLOW, 0600));
  MSB_TRY(lock_until(fd.get(), name, deadline));
  return fd;
}

}  // namespace msb::supervisor
