// SPDX-License-Identifier: Apache-2.0
// SandboxSpec <-> JSON. Values that have a grammar of their own (sizes, durations, ports, ...) are strings in
// it, read by the same parsers as the flags; numbers are taken too where the grammar has a bare form.
#include "supervisor/spec_json.h"

#include <algorithm>
#include <array>
#include <cstdio>

#include "supervisor/grammar.h"
#include "supervisor/names.h"
#include "supervisor/network.h"
#include "supervisor/quantities.h"

namespace msb::supervisor {
namespace {

using std::string_view;

constexpr std::uint64_t kMaxList = 4096;

template <typename E>
struct EnumName {
  E value;
  string_view name;
};
constexpr std::array<EnumName<PullPolicy>, 3> kPullNames = {
    {{PullPolicy::kIfMissing, "if-missing"}, {PullPolicy::kAlways, "always"}, {PullPolicy::kNever, "never"}}};
constexpr std::array<EnumName<Patch::Op>, 7> kOpNames = {{{Patch::Op::kText, "text"},
                                                          {Patch::Op::kFile, "file"},
                                                          {Patch::Op::kDir, "dir"},
                                                          {Patch::Op::kAppend, "append"},
                                                          {Patch::Op::kMkdir, "mkdir"},
                                                          {Patch::Op::kSymlink, "symlink"},
                                                          {Patch::Op::kRemove, "remove"}}};

template <typename E, std::size_t N>
string_view enum_name(const std::array<EnumName<E>, N>& names, E value) {
  for (const auto& entry : names) {
    if (entry.value == value) return entry.name;
  }
  return "";
}
template <typename E, std::size_t N>
Result<E> enum_value(const std::array<EnumName<E>, N>& names, const JsonView& view) {
  MSB_ASSIGN(const string_view text, view.as_string());
  std::string list;
  for (const auto& entry : names) {
    if (entry.name == text) return entry.value;
    list += (list.empty() ? "" : ", ") + std::string(entry.name);
  }
  return Error{Errc::kInvalid, 0, view.path() + ": must be one of " + list};
}

// A string or number member as text for a grammar.
Result<std::string> as_word(const JsonView& view) {
  if (view.kind() == JsonView::Kind::kNumber) {
    MSB_ASSIGN(const std::uint64_t number, view.as_uint());
    return std::to_string(number);
  }
  MSB_ASSIGN(const string_view text, view.as_string());
  return std::string(text);
}

// Reads the members of one object: each reader marks its key as known, so that finish() finds the others.
class Reader {
 public:
  Reader(JsonView view, UnknownKeys unknown) : view_(std::move(view)), unknown_(unknown) {}

  template <typename Read>
  Status read(string_view key, Read read_fn) {
    known_.push_back(key);
    if (!view_.is_object()) return Error{Errc::kInvalid, 0, where() + ": must be an object"};
    const auto member = view_.find(key);
    if (!member) return {};
    return located(*member, read_fn(*member));
  }
  Status text(string_view key, std::string& out) {
    return read(key, [&](const JsonView& v) -> Status {
      MSB_ASSIGN(const string_view value, v.as_string());
      out = value;
      return {};
    });
  }
  Status flag(string_view key, bool& out) {
    return read(key, [&](const JsonView& v) -> Status {
      MSB_ASSIGN(out, v.as_bool());
      return {};
    });
  }
  Status size(string_view key, std::uint64_t& out) {
    return word(key, [&](string_view value) -> Status {
      MSB_ASSIGN(out, parse_size_mib(value));
      return {};
    });
  }
  Status duration(string_view key, std::int64_t& out) {
    return word(key, [&](string_view value) -> Status {
      MSB_ASSIGN(out, parse_duration_ms(value));
      return {};
    });
  }
  Status count(string_view key, std::uint32_t& out, std::uint64_t max) {
    return read(key, [&](const JsonView& v) -> Status {
      MSB_ASSIGN(const std::uint64_t value, v.as_uint(max));
      out = static_cast<std::uint32_t>(value);
      return {};
    });
  }
  template <typename Parse>
  Status word(string_view key, Parse parse) {
    return read(key, [&](const JsonView& v) -> Status {
      MSB_ASSIGN(const std::string value, as_word(v));
      return located(v, parse(value));
    });
  }
  Status strings(string_view key, std::vector<std::string>& out) {
    return read(key, [&](const JsonView& v) -> Status {
      MSB_ASSIGN(out, v.as_strings());
      if (out.size() > kMaxList) return Error{Errc::kLimit, 0, v.path() + ": too many elements"};
      return {};
    });
  }
  template <typename Element>
  Status list(string_view key, Element element) {
    return read(key, [&](const JsonView& v) -> Status {
      MSB_ASSIGN(const auto elements, v.elements());
      if (elements.size() > kMaxList) return Error{Errc::kLimit, 0, v.path() + ": too many elements"};
      for (const JsonView& e : elements) MSB_TRY(located(e, element(e)));
      return {};
    });
  }
  template <typename Member>
  Status map(string_view key, Member member) {
    return read(key, [&](const JsonView& v) -> Status {
      MSB_ASSIGN(const auto members, v.members());
      if (members.size() > kMaxList) return Error{Errc::kLimit, 0, v.path() + ": too many members"};
      for (const auto& [name, value] : members) MSB_TRY(located(value, member(name, value)));
      return {};
    });
  }
  Status finish() {
    if (unknown_ == UnknownKeys::kIgnore) return {};
    MSB_ASSIGN(const auto members, view_.members());
    for (const auto& [name, value] : members) {
      if (std::find(known_.begin(), known_.end(), name) != known_.end()) continue;
      std::string list;
      for (const string_view key : known_) list += (list.empty() ? "" : ", ") + std::string(key);
      return Error{Errc::kInvalid, 0, value.path() + ": unknown key (known here: " + list + ")"};
    }
    return {};
  }

  // Adds the place to an error that does not name it yet.
  static Status located(const JsonView& view, Status status) {
    if (status.ok() || status.error().text.starts_with(view.path())) return status;
    return std::move(status).error().with_context(view.path());
  }

 private:
  [[nodiscard]] std::string where() const { return view_.path().empty() ? "document" : view_.path(); }
  JsonView view_;
  UnknownKeys unknown_;
  std::vector<string_view> known_;
};

Result<Mount> read_mount(const JsonView& view, UnknownKeys unknown) {
  if (view.is_string()) {
    MSB_ASSIGN(const string_view text, view.as_string());
    return parse_volume(text);
  }
  Mount mount;
  int kinds = 0;
  Reader reader(view, unknown);
  MSB_TRY(reader.read("tmpfs", [&](const JsonView& v) -> Status {
    ++kinds;
    mount.kind = Mount::Kind::kTmpfs;
    if (v.kind() == JsonView::Kind::kBool) return {};
    if (!v.is_object()) {
      MSB_ASSIGN(const std::string size, as_word(v));
      MSB_ASSIGN(mount.size_mib, parse_size_mib(size));
      return {};
    }
    Reader inner(v, unknown);
    MSB_TRY(inner.size("size", mount.size_mib));
    return inner.finish();
  }));
  const auto source = [&](string_view key, Mount::Kind kind) {
    return reader.read(key, [&](const JsonView& v) -> Status {
      ++kinds;
      mount.kind = kind;
      MSB_ASSIGN(const string_view text, v.as_string());
      mount.source = text;
      return {};
    });
  };
  MSB_TRY(source("bind", Mount::Kind::kBind));
  MSB_TRY(source("volume", Mount::Kind::kVolume));
  MSB_TRY(reader.text("target", mount.target));
  MSB_TRY(reader.flag("readonly", mount.readonly));
  MSB_TRY(reader.flag("noexec", mount.noexec));
  MSB_TRY(reader.flag("nosuid", mount.nosuid));
  MSB_TRY(reader.flag("nodev", mount.nodev));
  MSB_TRY(reader.finish());
  if (kinds != 1) return make_error(Errc::kInvalid, "needs exactly one of tmpfs, bind, volume");
  return mount;
}

Result<Patch> read_patch(const JsonView& view, UnknownKeys unknown) {
  Patch patch;
  Reader reader(view, unknown);
  bool has_op = false;
  MSB_TRY(reader.read("op", [&](const JsonView& v) -> Status {
    has_op = true;
    MSB_ASSIGN(patch.op, enum_value(kOpNames, v));
    return {};
  }));
  MSB_TRY(reader.text("path", patch.path));
  MSB_TRY(reader.text("content", patch.content));
  MSB_TRY(reader.text("source", patch.source));
  MSB_TRY(reader.read("mode", [&](const JsonView& v) -> Status {
    MSB_ASSIGN(const string_view text, v.as_string());
    std::uint32_t mode = 0;
    for (const char c : text) {
      if (c < '0' || c > '7' || text.size() > 5)
        return make_error(Errc::kInvalid, "must be octal digits such as \"0644\"");
      mode = mode * 8 + static_cast<std::uint32_t>(c - '0');
    }
    if (text.empty() || mode > 07777)
      return make_error(Errc::kInvalid, "must be octal digits such as \"0644\"");
    patch.mode = mode;
    return {};
  }));
  MSB_TRY(reader.finish());
  if (!has_op) return make_error(Errc::kInvalid, "op is missing");
  return patch;
}

Status read_init(const JsonView& view, UnknownKeys unknown, InitHandoff& init) {
  if (view.is_string()) {
    MSB_ASSIGN(const string_view path, view.as_string());
    init.path = path;
    return {};
  }
  Reader reader(view, unknown);
  MSB_TRY(reader.text("path", init.path));
  MSB_TRY(reader.strings("args", init.args));
  MSB_TRY(reader.strings("env", init.env));
  return reader.finish();
}

// Entrypoint and command: a list of words; one string is a shell command line, as in a Dockerfile.
Status read_words(const JsonView& view, std::optional<std::vector<std::string>>& out) {
  if (view.is_string()) {
    MSB_ASSIGN(const string_view line, view.as_string());
    out = std::vector<std::string>{"/bin/sh", "-c", std::string(line)};
    return {};
  }
  MSB_ASSIGN(out, view.as_strings());
  return {};
}

void write_mount(JsonWriter& out, const Mount& mount) {
  out.begin_object();
  switch (mount.kind) {
    case Mount::Kind::kTmpfs:
      out.key("tmpfs").begin_object();
      if (mount.size_mib != 0) out.field("size", format_size_mib(mount.size_mib));
      out.end_object();
      break;
    case Mount::Kind::kBind:
      out.field("bind", mount.source);
      break;
    case Mount::Kind::kVolume:
      out.field("volume", mount.source);
      break;
  }
  out.field("target", mount.target);
  if (mount.readonly) out.field("readonly", true);
  if (mount.noexec) out.field("noexec", true);
  if (mount.nosuid) out.field("nosuid", true);
  if (mount.nodev) out.field("nodev", true);
  out.end_object();
}

void write_patch(JsonWriter& out, const Patch& patch) {
  out.begin_object().field("op", enum_name(kOpNames, patch.op)).field("path", patch.path);
  if (!patch.content.empty()) out.field("content", patch.content);
  if (!patch.source.empty()) out.field("source", patch.source);
  if (patch.mode) {
    std::array<char, 8> mode{};
    std::snprintf(mode.data(), mode.size(), "%04o", *patch.mode);
    out.field("mode", mode.data());
  }
  out.end_object();
}

std::string format_rlimit(const Rlimit& limit) {
  const auto word = [](std::uint64_t v) {
    return v == kRlimitUnlimited ? std::string("unlimited") : std::to_string(v);
  };
  std::string out = limit.resource + "=" + word(limit.soft);
  if (limit.hard != limit.soft) out += ":" + word(limit.hard);
  return out;
}

Status read_labels(Reader& spec, std::vector<Label>& out) {
  return spec.map("labels", [&](string_view key, const JsonView& v) -> Status {
    MSB_ASSIGN(const std::string value, as_word(v));
    MSB_ASSIGN(Label label, parse_label(std::string(key) + "=" + value));
    out.push_back(std::move(label));
    return {};
  });
}

}  // namespace

Result<std::vector<Label>> labels_from_view(const JsonView& spec) {
  Reader reader(spec, UnknownKeys::kIgnore);
  std::vector<Label> out;
  MSB_TRY(read_labels(reader, out));
  return out;
}

Result<SandboxSpec> spec_from_json(string_view json, UnknownKeys unknown) {
  MSB_ASSIGN(const JsonDocument document, JsonDocument::parse(json, {.max_bytes = std::size_t{16} << 20}));
  return spec_from_view(document.root(), unknown);
}

Result<SandboxSpec> spec_from_view(const JsonView& view, UnknownKeys unknown) {
  SandboxSpec spec;
  Reader reader(view, unknown);
  std::uint32_t version = 1;
  MSB_TRY(reader.count("version", version, UINT32_MAX));
  if (version != 1 && unknown == UnknownKeys::kRefuse)
    return make_error(Errc::kInvalid, "version: only 1 is known");
  MSB_TRY(reader.text("name", spec.name));
  MSB_TRY(reader.text("image", spec.image));
  MSB_TRY(reader.read("pull_policy", [&](const JsonView& v) -> Status {
    MSB_ASSIGN(spec.pull, enum_value(kPullNames, v));
    return {};
  }));
  MSB_TRY(reader.count("cpus", spec.cpus, kMaxCpus));
  MSB_TRY(reader.count("max_cpus", spec.max_cpus, kMaxCpus));
  MSB_TRY(reader.size("memory", spec.memory_mib));
  MSB_TRY(reader.size("max_memory", spec.max_memory_mib));
  MSB_TRY(reader.word("root_disk", [&](string_view text) -> Status {
    MSB_ASSIGN(spec.root_disk, parse_root_disk(text));
    return {};
  }));
  MSB_TRY(reader.read("entrypoint", [&](const JsonView& v) { return read_words(v, spec.entrypoint); }));
  MSB_TRY(reader.read("cmd", [&](const JsonView& v) { return read_words(v, spec.cmd); }));
  MSB_TRY(reader.read("env", [&](const JsonView& v) -> Status {
    if (v.is_array()) {
      MSB_ASSIGN(spec.env, v.as_strings());
      return {};
    }
    MSB_ASSIGN(const auto members, v.members());
    for (const auto& [key, value] : members) {
      MSB_ASSIGN(const std::string text, as_word(value));
      spec.env.push_back(std::string(key) + "=" + text);
    }
    return {};
  }));
  MSB_TRY(reader.text("workdir", spec.workdir));
  MSB_TRY(reader.word("user", [&](string_view text) -> Status {
    spec.user = text;
    return {};
  }));
  MSB_TRY(reader.text("shell", spec.shell));
  MSB_TRY(reader.text("hostname", spec.hostname));
  MSB_TRY(reader.word("stop_signal", [&](string_view text) -> Status {
    spec.stop_signal = text;
    return {};
  }));
  MSB_TRY(read_labels(reader, spec.labels));
  MSB_TRY(reader.list("rlimits", [&](const JsonView& v) -> Status {
    MSB_ASSIGN(const string_view text, v.as_string());
    MSB_ASSIGN(Rlimit limit, parse_rlimit(text));
    spec.rlimits.push_back(std::move(limit));
    return {};
  }));
  MSB_TRY(reader.list("mounts", [&](const JsonView& v) -> Status {
    MSB_ASSIGN(Mount mount, read_mount(v, unknown));
    spec.mounts.push_back(std::move(mount));
    return {};
  }));
  MSB_TRY(reader.map("scripts", [&](string_view name, const JsonView& v) -> Status {
    MSB_ASSIGN(const string_view body, v.as_string());
    spec.scripts.push_back({std::string(name), std::string(body)});
    return {};
  }));
  MSB_TRY(reader.list("patches", [&](const JsonView& v) -> Status {
    MSB_ASSIGN(Patch patch, read_patch(v, unknown));
    spec.patches.push_back(std::move(patch));
    return {};
  }));
  MSB_TRY(reader.read("init", [&](const JsonView& v) -> Status {
    spec.init.emplace();
    return read_init(v, unknown, *spec.init);
  }));
  MSB_TRY(reader.read("network", [&](const JsonView& v) -> Status {
    MSB_ASSIGN(spec.network, read_network(v, unknown));
    return {};
  }));
  MSB_TRY(reader.list("ports", [&](const JsonView& v) -> Status {
    MSB_ASSIGN(const std::string text, as_word(v));
    MSB_ASSIGN(PortMapping port, parse_port(text));
    spec.network.ports.push_back(std::move(port));
    return {};
  }));
  MSB_TRY(reader.list("vsock", [&](const JsonView& v) -> Status {
    MSB_ASSIGN(const string_view text, v.as_string());
    MSB_ASSIGN(HostSocket socket, parse_host_socket(text));
    spec.host_sockets.push_back(std::move(socket));
    return {};
  }));
  MSB_TRY(reader.duration("max_duration", spec.max_duration_ms));
  MSB_TRY(reader.duration("idle_timeout", spec.idle_timeout_ms));
  MSB_TRY(reader.duration("stop_timeout", spec.stop_timeout_ms));
  MSB_TRY(reader.flag("ephemeral", spec.ephemeral));
  MSB_TRY(reader.flag("require_confinement", spec.require_confinement));
  MSB_TRY(reader.text("log_level", spec.log_level));
  MSB_TRY(reader.finish());
  return spec;
}

std::string spec_to_json(const SandboxSpec& spec, bool pretty) {
  static const SandboxSpec kDefault;
  JsonWriter out(pretty ? JsonWriter::Style::kPretty : JsonWriter::Style::kCompact);
  const auto text = [&](string_view key, const std::string& value) {
    if (!value.empty()) out.field(key, value);
  };
  const auto duration = [&](string_view key, std::int64_t value, std::int64_t fallback) {
    if (value != fallback) out.field(key, format_duration_ms(value));
  };
  out.begin_object();
  text("name", spec.name);
  text("image", spec.image);
  if (spec.pull != kDefault.pull) out.field("pull_policy", enum_name(kPullNames, spec.pull));
  out.field("cpus", spec.cpus);
  if (spec.max_cpus != 0) out.field("max_cpus", spec.max_cpus);
  out.field("memory", format_size_mib(spec.memory_mib));
  if (spec.max_memory_mib != 0) out.field("max_memory", format_size_mib(spec.max_memory_mib));
  if (spec.root_disk.kind == RootDisk::Kind::kDisk) {
    out.field("root_disk", format_size_mib(spec.root_disk.size_mib));
  } else {
    const auto size = spec.root_disk.size_mib;
    out.field("root_disk", size == 0 ? std::string("tmpfs") : "tmpfs:" + format_size_mib(size));
  }
  if (spec.entrypoint) out.field("entrypoint", *spec.entrypoint);
  if (spec.cmd) out.field("cmd", *spec.cmd);
  if (!spec.env.empty()) out.field("env", spec.env);
  text("workdir", spec.workdir);
  text("user", spec.user);
  text("shell", spec.shell);
  text("hostname", spec.hostname);
  text("stop_signal", spec.stop_signal);
  if (!spec.labels.empty()) {
    out.key("labels").begin_object();
    for (const Label& label : spec.labels) out.field(label.key, label.value);
    out.end_object();
  }
  if (!spec.rlimits.empty()) {
    out.key("rlimits").begin_array();
    for (const Rlimit& limit : spec.rlimits) out.string(format_rlimit(limit));
    out.end_array();
  }
  if (!spec.mounts.empty()) {
    out.key("mounts").begin_array();
    for (const Mount& mount : spec.mounts) write_mount(out, mount);
    out.end_array();
  }
  if (!spec.scripts.empty()) {
    out.key("scripts").begin_object();
    for (const Script& script : spec.scripts) out.field(script.name, script.body);
    out.end_object();
  }
  if (!spec.patches.empty()) {
    out.key("patches").begin_array();
    for (const Patch& patch : spec.patches) write_patch(out, patch);
    out.end_array();
  }
  if (spec.init) {
    out.key("init").begin_object().field("path", spec.init->path);
    if (!spec.init->args.empty()) out.field("args", spec.init->args);
    if (!spec.init->env.empty()) out.field("env", spec.init->env);
    out.end_object();
  }
  const NetworkSpec& network = spec.network;
  NetworkSpec without_ports = network;
  without_ports.ports.clear();
  if (without_ports != NetworkSpec{}) {
    out.key("network");
    write_network(network, out);
  }
  if (!network.ports.empty()) {
    out.key("ports").begin_array();
    for (const PortMapping& port : network.ports) out.string(format_port(port));
    out.end_array();
  }
  if (!spec.host_sockets.empty()) {
    out.key("vsock").begin_array();
    for (const HostSocket& socket : spec.host_sockets) out.string(format_host_socket(socket));
    out.end_array();
  }
  duration("max_duration", spec.max_duration_ms, kDefault.max_duration_ms);
  duration("idle_timeout", spec.idle_timeout_ms, kDefault.idle_timeout_ms);
  duration("stop_timeout", spec.stop_timeout_ms, kDefault.stop_timeout_ms);
  if (spec.ephemeral) out.field("ephemeral", true);
  if (spec.require_confinement) out.field("require_confinement", true);
  if (spec.log_level != kDefault.log_level) out.field("log_level", spec.log_level);
  out.end_object();
  return std::move(out).take();
}

}  // namespace msb::supervisor
