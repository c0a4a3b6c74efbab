// SPDX-License-Identifier: Apache-2.0
// What a specification must keep to, however it was written.
#include "supervisor/spec.h"

#include <algorithm>
#include <array>
#include <string_view>

#include "base/json.h"
#include "supervisor/grammar.h"
#include "supervisor/names.h"
#include "supervisor/network.h"
#include "supervisor/quantities.h"

namespace msb::supervisor {
namespace {

constexpr std::array<std::string_view, 5> kLogLevels = {"error", "warn", "info", "debug", "trace"};

}  // namespace

Status validate_spec(const SandboxSpec& spec) {
  const auto bad = [](std::string text) { return Error{Errc::kInvalid, 0, std::move(text)}; };
  if (!spec.name.empty()) MSB_TRY(check_name(spec.name));
  if (spec.image.empty()) return bad("image: is missing");
  if (spec.cpus < 1 || spec.cpus > kMaxCpus) return bad("cpus: must be 1 to " + std::to_string(kMaxCpus));
  if (spec.max_cpus != 0 && spec.max_cpus < spec.cpus) return bad("max_cpus: must not be below cpus");
  if (spec.memory_mib < kMinMemoryMib)
    return bad("memory: at least " + format_size_mib(kMinMemoryMib) + " is needed");
  if (spec.memory_mib > std::uint64_t{1} << 20) return bad("memory: at most 1T is possible");
  if (spec.max_memory_mib != 0 && spec.max_memory_mib < spec.memory_mib) {
    return bad("max_memory: must not be below memory");
  }
  if (spec.root_disk.kind == RootDisk::Kind::kTmpfs && spec.root_disk.size_mib > spec.memory_mib) {
    return bad("root_disk: a tmpfs cannot be larger than the memory");
  }
  if (spec.entrypoint && !spec.entrypoint->empty() && spec.entrypoint->front().empty()) {
    return bad("entrypoint: its first word is empty");
  }
  for (const std::string& entry : spec.env) {
    if (auto parsed = parse_env(entry, nullptr); !parsed.ok())
      return std::move(parsed).error().with_context("env");
    if (!is_utf8(entry)) return bad("env: \"" + entry.substr(0, entry.find('=')) + "\" is not UTF-8");
  }
  if (!spec.workdir.empty()) MSB_TRY(check_guest_path(spec.workdir));
  if (!spec.user.empty()) MSB_TRY(check_user(spec.user));
  if (!spec.shell.empty()) MSB_TRY(check_guest_path(spec.shell));
  if (!spec.hostname.empty()) MSB_TRY(check_hostname(spec.hostname));
  if (!spec.stop_signal.empty()) {
    auto signal = parse_signal(spec.stop_signal);
    if (!signal.ok()) return std::move(signal).error().with_context("stop_signal");
  }
  for (std::size_t i = 0; i < spec.mounts.size(); ++i) {
    const Mount& mount = spec.mounts[i];
    MSB_TRY(check_guest_path(mount.target));
    if (mount.target == "/") return bad("mounts: / cannot be a mount's target");
    for (std::size_t j = 0; j < i; ++j) {
      if (spec.mounts[j].target == mount.target) return bad("mounts: " + mount.target + " is mounted twice");
    }
  }
  for (std::size_t i = 0; i < spec.scripts.size(); ++i) {
    MSB_TRY(check_name(spec.scripts[i].name));
    for (std::size_t j = 0; j < i; ++j) {
      if (spec.scripts[j].name == spec.scripts[i].name)
        return bad("scripts: " + spec.scripts[i].name + " is given twice");
    }
  }
  for (const Patch& patch : spec.patches) {
    MSB_TRY(check_guest_path(patch.path));
    if (patch.path == "/") return bad("patches: / itself cannot be changed");
    const bool needs_source = patch.op == Patch::Op::kFile || patch.op == Patch::Op::kDir;
    if (needs_source == patch.source.empty()) {
      return bad("patches: " + patch.path +
                 (needs_source ? ": source is missing" : ": source does not belong here"));
    }
    if (patch.op == Patch::Op::kSymlink && patch.content.empty())
      return bad("patches: " + patch.path + ": content (the target) is missing");
  }
  if (spec.init && spec.init->path != "auto") MSB_TRY(check_guest_path(spec.init->path));
  for (std::size_t i = 0; i < spec.network.ports.size(); ++i) {
    const PortMapping& port = spec.network.ports[i];
    for (std::size_t j = 0; j < i; ++j) {
      const PortMapping& other = spec.network.ports[j];
      if (port.host != 0 && port.host == other.host && port.udp == other.udp && port.bind == other.bind) {
        return bad("ports: " + format_port(port) + ": the host port is used twice");
      }
    }
  }
  for (std::size_t i = 0; i < spec.host_sockets.size(); ++i) {
    const HostSocket& socket = spec.host_sockets[i];
    if (!socket.path.starts_with('/')) return bad("vsock: " + socket.path + ": must be an absolute path");
    for (std::size_t j = 0; j < i; ++j) {
      if (spec.host_sockets[j].port == socket.port)
        return bad("vsock: port " + std::to_string(socket.port) + " is used twice");
    }
  }
  MSB_TRY(check_network(spec.network));
  if (std::find(kLogLevels.begin(), kLogLevels.end(), spec.log_level) == kLogLevels.end()) {
    return bad("log_level: must be one of error, warn, info, debug, trace");
  }
  return {};
}

}  // namespace msb::supervisor
