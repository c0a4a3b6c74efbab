// SPDX-License-Identifier: Apache-2.0
#include "proto/vm_spec.h"

#include <algorithm>
#include <utility>

#include "base/json.h"
#include "proto/agent.h"
#include "proto/guest_config.h"

namespace msb::proto {
namespace {

constexpr JsonLimits kLimits{.max_bytes = std::size_t{32} << 20, .max_depth = 16, .max_values = 500'000};
constexpr std::uint64_t kMaxCpus = 64;
constexpr std::uint64_t kMinMemoryMib = 64;
constexpr std::uint64_t kMaxMemoryMib = std::uint64_t{4} << 20;
constexpr std::uint64_t kMaxSeconds = std::uint64_t{10} * 365 * 86400;
constexpr std::uint64_t kExtentUnit = 4096;
constexpr std::size_t kMaxExtents = 4096;
constexpr std::size_t kMaxDisks = 12;
constexpr std::size_t kMaxHostSockets = 64;
constexpr std::size_t kMaxDiskId = 20;
constexpr int kMaxFd = 1 << 20;

Error wrong(const JsonView& at, const std::string& text) {
  return make_error(Errc::kInvalid, "%s: %s", at.path().c_str(), text.c_str());
}

Result<std::string> absolute_path(const JsonView& object, std::string_view key) {
  MSB_ASSIGN(const JsonView value, object.at(key));
  MSB_ASSIGN(const std::string_view path, value.as_string());
  if (path.empty() || path.front() != '/' || path.find('\0') != std::string_view::npos) {
    return wrong(value, "must be an absolute path");
  }
  return std::string(path);
}

Result<std::optional<int>> descriptor(const JsonView& object, std::string_view key) {
  const auto value = object.find(key);
  if (!value) return std::optional<int>{};
  MSB_ASSIGN(const std::uint64_t number, value->as_uint(kMaxFd));
  if (number < 3) return wrong(*value, "must be a descriptor above 2");
  return std::optional<int>{static_cast<int>(number)};
}

Status parse_cpus(const JsonView& root, VmSpec& spec) {
  const auto cpus = root.find("cpus");
  if (!cpus) return {};
  MSB_TRY(cpus->only_keys({"online", "max", "template"}));
  MSB_ASSIGN(const std::uint64_t online, cpus->get_uint_or("online", 1, kMaxCpus));
  MSB_ASSIGN(const std::uint64_t max, cpus->get_uint_or("max", online, kMaxCpus));
  if (online < 1) return wrong(*cpus, "online must be at least 1");
  if (max < online) return wrong(*cpus, "max must not be below online");
  spec.cpus_online = static_cast<std::uint32_t>(online);
  spec.cpus_max = static_cast<std::uint32_t>(max);
  MSB_ASSIGN(spec.cpu_template, cpus->get_string_or("template", "host"));
  if (spec.cpu_template != "host" && spec.cpu_template != "conservative") {
    return wrong(*cpus, "template must be \"host\" or \"conservative\"");
  }
  return {};
}

Status parse_memory(const JsonView& root, VmSpec& spec) {
  const auto memory = root.find("memory_mib");
  if (!memory) return {};
  MSB_TRY(memory->only_keys({"size", "max"}));
  MSB_ASSIGN(spec.memory_mib, memory->get_uint("size", kMaxMemoryMib));
  MSB_ASSIGN(spec.memory_max_mib, memory->get_uint_or("max", spec.memory_mib, kMaxMemoryMib));
  if (spec.memory_mib < kMinMemoryMib) {
    return wrong(*memory, "size: a guest needs at least " + std::to_string(kMinMemoryMib) + " MiB");
  }
  if (spec.memory_max_mib < spec.memory_mib) return wrong(*memory, "max must not be below size");
  return {};
}

Status parse_root(const JsonView& root, VmSpec& spec) {
  MSB_ASSIGN(const JsonView disk, root.at("root"));
  MSB_TRY(disk.only_keys({"kind", "extents"}));
  MSB_ASSIGN(const std::string kind, disk.get_string("kind"));
  if (kind != "erofs" && kind != "disk") return wrong(disk, "kind must be \"erofs\" or \"disk\"");
  MSB_ASSIGN(const JsonView list, disk.at("extents"));
  MSB_ASSIGN(const std::vector<JsonView> extents, list.elements());
  if (extents.empty() || extents.size() > kMaxExtents) {
    return wrong(list, "must have 1 to " + std::to_string(kMaxExtents) + " extents");
  }
  for (const JsonView& value : extents) {
    MSB_TRY(value.only_keys({"path", "offset", "length"}));
    VmSpec::Extent extent;
    MSB_ASSIGN(extent.path, absolute_path(value, "path"));
    MSB_ASSIGN(extent.offset, value.get_uint_or("offset", 0, INT64_MAX));
    MSB_ASSIGN(extent.length, value.get_uint("length", INT64_MAX));
    if (extent.offset % kExtentUnit != 0 || extent.length % kExtentUnit != 0 || extent.length == 0) {
      return wrong(value, "offset and length must be multiples of 4096, the length not 0");
    }
    spec.root.push_back(std::move(extent));
  }
  return {};
}

Status parse_disks(const JsonView& root, VmSpec& spec) {
  if (const auto upper = root.find("upper")) {
    MSB_TRY(upper->only_keys({"kind", "path", "size_mib"}));
    MSB_ASSIGN(const std::string kind, upper->get_string("kind"));
    if (kind == "ext4") {
      if (upper->find("size_mib")) return wrong(*upper, "size_mib is for kind \"tmpfs\"");
      MSB_ASSIGN(spec.upper, absolute_path(*upper, "path"));
    } else if (kind != "tmpfs") {
      return wrong(*upper, "kind must be \"ext4\" or \"tmpfs\"");
    } else if (upper->find("path")) {
      return wrong(*upper, "path is for kind \"ext4\"");
    }
  }
  const auto list = root.find("disks");
  if (!list) return {};
  MSB_ASSIGN(const std::vector<JsonView> disks, list->elements());
  if (disks.size() > kMaxDisks)
    return wrong(*list, "at most " + std::to_string(kMaxDisks) + " disks are possible");
  for (const JsonView& value : disks) {
    MSB_TRY(value.only_keys({"path", "readonly", "id"}));
    VmSpec::Disk disk;
    MSB_ASSIGN(disk.path, absolute_path(value, "path"));
    MSB_ASSIGN(disk.read_only, value.get_bool_or("readonly", false));
    MSB_ASSIGN(disk.id, value.get_string_or("id", ""));
    const bool printable =
        std::all_of(disk.id.begin(), disk.id.end(), [](char c) { return c > 0x20 && c < 0x7f; });
    if (disk.id.size() > kMaxDiskId || !printable)
      return wrong(value, "id must be at most 20 printable characters");
    spec.disks.push_back(std::move(disk));
  }
  return {};
}

Status parse_net(const JsonView& root, VmSpec& spec) {
  const auto net = root.find("net");
  if (!net) return {};
  MSB_TRY(net->only_keys({"enabled", "config", "secrets_fd", "pcap"}));
  MSB_ASSIGN(spec.net.enabled, net->get_bool_or("enabled", false));
  MSB_ASSIGN(spec.net.secrets_fd, descriptor(*net, "secrets_fd"));
  if (net->find("pcap")) {
    MSB_ASSIGN(spec.net.pcap, absolute_path(*net, "pcap"));
  }
  const auto config = net->find("config");
  if (config && !config->is_object()) return wrong(*config, "must be an object");
  if (config) spec.net.config = config->dump();
  if (spec.net.enabled && !config) return wrong(*net, "config is missing, yet the network is enabled");
  return {};
}

Status parse_host_sockets(const JsonView& root, VmSpec& spec) {
  const auto list = root.find("host_sockets");
  if (!list) return {};
  MSB_ASSIGN(const std::vector<JsonView> sockets, list->elements());
  if (sockets.size() > kMaxHostSockets)
    return wrong(*list, "at most " + std::to_string(kMaxHostSockets) + " are possible");
  for (const JsonView& value : sockets) {
    MSB_TRY(value.only_keys({"port", "path"}));
    VmSpec::HostSocket socket;
    MSB_ASSIGN(const std::uint64_t port, value.get_uint("port", UINT32_MAX - 1));
    if (port <= kReadyPort) return wrong(value, "port must be 2 or more");
    socket.port = static_cast<std::uint32_t>(port);
    MSB_ASSIGN(socket.path, absolute_path(value, "path"));
    for (const VmSpec::HostSocket& other : spec.host_sockets) {
      if (other.port == socket.port) return wrong(value, "port is given twice");
    }
    spec.host_sockets.push_back(std::move(socket));
  }
  return {};
}

Status parse_guest(const JsonView& root, VmSpec& spec) {
  const auto guest = root.find("guest");
  if (guest) {
    MSB_TRY(GuestConfig::parse(*guest));
    spec.guest = guest->dump();
  } else {
    spec.guest = R"({"version":1})";
  }
  const auto main = root.find("main");
  if (!main) return {};
  MSB_ASSIGN(ExecRequest request, ExecRequest::parse(*main));
  if (request.tty || request.stdin_open)
    return wrong(*main, "a main command has neither a terminal nor input");
  // Whoever reads its output logs it: the agent must not tell it a second time.
  spec.main_logged = std::exchange(request.log, false);
  JsonWriter out;
  request.write(out);
  spec.main = std::move(out).take();
  return {};
}

Status parse_lifetime(const JsonView& root, VmSpec& spec) {
  MSB_ASSIGN(spec.leash_fd, descriptor(root, "leash_fd"));
  MSB_ASSIGN(spec.ready_fd, descriptor(root, "ready_fd"));
  if (const auto timeouts = root.find("timeouts")) {
    MSB_TRY(timeouts->only_keys({"boot_s", "stop_grace_s", "max_duration_s", "idle_s"}));
    MSB_ASSIGN(spec.timeouts.boot_s, timeouts->get_uint_or("boot_s", spec.timeouts.boot_s, kMaxSeconds));
    MSB_ASSIGN(spec.timeouts.stop_grace_s,
               timeouts->get_uint_or("stop_grace_s", spec.timeouts.stop_grace_s, kMaxSeconds));
    MSB_ASSIGN(spec.timeouts.max_duration_s, timeouts->get_uint_or("max_duration_s", 0, kMaxSeconds));
    MSB_ASSIGN(spec.timeouts.idle_s, timeouts->get_uint_or("idle_s", 0, kMaxSeconds));
    if (spec.timeouts.boot_s == 0) return wrong(*timeouts, "boot_s must be at least 1");
  }
  MSB_ASSIGN(spec.ephemeral, root.get_bool_or("ephemeral", false));
  if (const auto log = root.find("log")) {
    MSB_TRY(log->only_keys({"level", "max_bytes", "files"}));
    MSB_ASSIGN(spec.log.level, log->get_string_or("level", spec.log.level));
    MSB_ASSIGN(spec.log.max_bytes, log->get_uint_or("max_bytes", spec.log.max_bytes, std::uint64_t{1} << 40));
    MSB_ASSIGN(spec.log.files, log->get_uint_or("files", spec.log.files, 100));
  }
  MSB_ASSIGN(const std::string confinement, root.get_string_or("confinement", "auto"));
  if (confinement != "auto" && confinement != "require") {
    return make_error(Errc::kInvalid, "confinement: must be \"auto\" or \"require\"");
  }
  if (confinement == "require") spec.confinement = VmSpec::Confinement::kRequire;
  return {};
}

}  // namespace

Result<VmSpec> VmSpec::parse(std::string_view json) {
  MSB_ASSIGN(const JsonDocument document, JsonDocument::parse(json, kLimits));
  const JsonView root = document.root();
  MSB_TRY(root.only_keys({"version", "name",        "dir",         "kernel",   "initrd",   "cmdline_extra",
                          "cpus",    "memory_mib",  "root",        "upper",    "disks",    "net",
                          "guest",   "main",        "leash_fd",    "ready_fd", "timeouts", "ephemeral",
                          "log",     "confinement", "host_sockets"}));
  MSB_ASSIGN(const std::uint64_t version, root.get_uint("version"));
  if (version != 1) return make_error(Errc::kInvalid, "version: only 1 is known");
  VmSpec spec;
  MSB_ASSIGN(spec.name, root.get_string("name"));
  MSB_ASSIGN(spec.dir, absolute_path(root, "dir"));
  MSB_ASSIGN(spec.kernel, absolute_path(root, "kernel"));
  MSB_ASSIGN(spec.initrd, absolute_path(root, "initrd"));
  MSB_ASSIGN(spec.cmdline_extra, root.get_string_or("cmdline_extra", ""));
  MSB_TRY(parse_cpus(root, spec));
  MSB_TRY(parse_memory(root, spec));
  MSB_TRY(parse_root(root, spec));
  MSB_TRY(parse_disks(root, spec));
  MSB_TRY(parse_net(root, spec));
  MSB_TRY(parse_host_sockets(root, spec));
  MSB_TRY(parse_guest(root, spec));
  MSB_TRY(parse_lifetime(root, spec));
  return spec;
}

}  // namespace msb::proto
