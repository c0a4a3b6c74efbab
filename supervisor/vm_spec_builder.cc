// SPDX-License-Identifier: Apache-2.0
#include "supervisor/vm_spec_builder.h"

#include <algorithm>

#include "base/base64.h"
#include "base/json.h"
#include "base/sha256.h"
#include "supervisor/names.h"
#include "supervisor/network.h"

namespace msb::supervisor {
namespace {

constexpr std::string_view kDefaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
constexpr std::int64_t kBootTimeoutS = 120;

// Sets KEY=VALUE in a list in which each key stands once.
void set_env(std::vector<std::string>& env, const std::string& entry) {
  const std::string_view key = std::string_view(entry).substr(0, entry.find('=') + 1);
  for (std::string& existing : env) {
    if (existing.starts_with(key)) {
      existing = entry;
      return;
    }
  }
  env.push_back(entry);
}

std::optional<std::uint64_t> limit_value(std::uint64_t value) {
  return value == kRlimitUnlimited ? std::nullopt : std::optional<std::uint64_t>(value);
}
proto::ResourceLimit to_proto(const Rlimit& limit) {
  return {limit.resource, limit_value(limit.soft), limit_value(limit.hard)};
}

std::string mount_options(const Mount& mount) {
  std::string out = mount.readonly ? "ro" : "rw";
  if (mount.noexec) out += ",noexec";
  if (mount.nosuid) out += ",nosuid";
  if (mount.nodev) out += ",nodev";
  return out;
}

}  // namespace

std::string default_hostname(std::string_view name) {
  if (check_hostname(name).ok()) return std::string(name);
  std::string out(name.substr(0, 55));
  for (char& c : out) {
    if (c == '_') c = '-';
  }
  return out + "-" + sha256_hex(name).substr(0, 8);
}

std::vector<std::string> resolve_command(const SandboxSpec& spec, const ImageConfig& image,
                                         const std::vector<std::string>& words) {
  std::vector<std::string> out = spec.entrypoint ? *spec.entrypoint : image.entrypoint;
  if (!words.empty()) {
    out.insert(out.end(), words.begin(), words.end());
  } else if (spec.cmd) {
    out.insert(out.end(), spec.cmd->begin(), spec.cmd->end());
  } else if (!spec.entrypoint) {
    out.insert(out.end(), image.cmd.begin(), image.cmd.end());
  }
  return out;
}

proto::ExecRequest to_request(const ExecSpec& spec) {
  proto::ExecRequest out;
  out.argv = spec.argv;
  out.env = spec.env;
  out.cwd = spec.workdir;
  out.user = spec.user;
  for (const Rlimit& limit : spec.rlimits) out.rlimits.push_back(to_proto(limit));
  if (spec.tty) out.tty = proto::ExecRequest::Tty{{spec.tty->size.rows, spec.tty->size.cols}, spec.tty->term};
  out.stdin_open = spec.stdin_open;
  out.timeout_ms = static_cast<std::uint64_t>(std::max<std::int64_t>(spec.timeout_ms, 0));
  out.name = spec.name;
  out.detachable = spec.detachable;
  out.log = spec.log;
  return out;
}

proto::GuestConfig guest_config(const LaunchInput& input) {
  const SandboxSpec& spec = input.record->spec;
  const ImageConfig& image = input.image->config;
  proto::GuestConfig out;
  out.hostname = spec.hostname.empty() ? default_hostname(input.name) : spec.hostname;
  out.root_fs = input.image->file_system;
  if (spec.root_disk.kind == RootDisk::Kind::kDisk) {
    out.upper_device = "vdb";
  } else {
    out.upper_tmpfs_mib = spec.root_disk.size_mib;
  }
  for (const Mount& mount : spec.mounts) {
    if (mount.kind == Mount::Kind::kTmpfs)
      out.mounts.push_back({"tmpfs", mount.target, mount.size_mib, mount_options(mount)});
  }
  if (spec.network.enabled) {
    proto::GuestConfig::Net net;
    net.mac = kGuestMac;
    net.mtu = kGuestMtu;
    net.ipv4 = proto::GuestConfig::Address{"172.16.0.2", 30, "172.16.0.1"};
    net.ipv6 = proto::GuestConfig::Address{"fd42:6d73:62::2", 64, "fd42:6d73:62::1"};
    net.dns = {"172.16.0.1"};
    out.net = std::move(net);
  }
  for (const std::string& entry : image.env) set_env(out.env, entry);
  for (const std::string& entry : spec.env) set_env(out.env, entry);
  const bool has_path = std::any_of(out.env.begin(), out.env.end(),
                                    [](const std::string& e) { return e.starts_with("PATH="); });
  if (!has_path) out.env.push_back("PATH=" + std::string(kDefaultPath));
  if (!spec.scripts.empty()) {
    for (std::string& entry : out.env) {
      if (entry.starts_with("PATH=")) entry.insert(5, std::string(kScriptDirectory) + ":");
    }
    for (const Script& script : spec.scripts) {
      std::string body = script.body;
      if (!body.starts_with("#!"))
        body.insert(0, "#!" + (spec.shell.empty() ? std::string("/bin/sh") : spec.shell) + "\n");
      out.files.push_back({std::string(kScriptDirectory) + "/" + script.name, 0755, std::move(body)});
    }
  }
  out.user = spec.user.empty() ? image.user : spec.user;
  out.workdir = spec.workdir.empty() ? image.workdir : spec.workdir;
  for (const Rlimit& limit : spec.rlimits) out.rlimits.push_back(to_proto(limit));
  if (!spec.shell.empty()) out.shell = spec.shell;
  if (!image.stop_signal.empty()) out.stop_signal = image.stop_signal;
  if (!spec.stop_signal.empty()) out.stop_signal = spec.stop_signal;
  if (spec.init) out.init = proto::GuestConfig::Init{spec.init->path, spec.init->args, spec.init->env};
  out.clock_ns = input.clock_ns;
  out.entropy = input.entropy;
  return out;
}

std::string vm_spec_json(const LaunchInput& input) {
  const SandboxSpec& spec = input.record->spec;
  JsonWriter out;
  out.begin_object().field("version", 1).field("name", input.name).field("dir", input.directory);
  out.field("kernel", input.installation->data + "/vmlinux")
      .field("initrd", input.installation->data + "/agent.cpio");
  out.key("cpus").begin_object().field("online", spec.cpus);
  out.field("max", std::max(spec.cpus, spec.max_cpus)).end_object();
  out.key("memory_mib").begin_object().field("size", spec.memory_mib);
  out.field("max", std::max(spec.memory_mib, spec.max_memory_mib)).end_object();
  const bool layers = input.image->file_system == "erofs";
  out.key("root").begin_object().field("kind", layers ? "erofs" : "disk").key("extents").begin_array();
  for (const ImageExtent& extent : input.image->extents) {
    out.begin_object().field("path", extent.path).field("offset", extent.offset);
    out.field("length", extent.length).end_object();
  }
  out.end_array().end_object();
  out.key("upper").begin_object();
  if (spec.root_disk.kind == RootDisk::Kind::kDisk) {
    out.field("kind", "ext4").field("path", input.directory + "/upper.ext4");
  } else {
    out.field("kind", "tmpfs").field("size_mib", spec.root_disk.size_mib);
  }
  out.end_object();
  const bool network = spec.network.enabled;
  out.key("net").begin_object().field("enabled", network);
  if (network) {
    out.key("config");
    write_net_config(spec.network, out);
    if (input.secrets_fd) out.field("secrets_fd", *input.secrets_fd);
    if (!spec.network.pcap.empty()) out.field("pcap", spec.network.pcap);
  }
  out.end_object();
  out.key("host_sockets").begin_array();
  for (const HostSocket& socket : spec.host_sockets)
    out.begin_object().field("port", socket.port).field("path", socket.path).end_object();
  out.end_array();
  out.key("guest");
  guest_config(input).write(out);
  out.key("main");
  if (input.record->main_json.empty()) {
    out.null();
  } else {
    out.raw(input.record->main_json);
  }
  out.key("leash_fd");
  if (input.leash_fd) {
    out.integer(*input.leash_fd);
  } else {
    out.null();
  }
  out.field("ready_fd", input.ready_fd);
  out.key("timeouts").begin_object().field("boot_s", kBootTimeoutS);
  out.field("stop_grace_s", (spec.stop_timeout_ms + 999) / 1000);
  out.field("max_duration_s", (spec.max_duration_ms + 999) / 1000);
  out.field("idle_s", (spec.idle_timeout_ms + 999) / 1000).end_object();
  out.field("ephemeral", spec.ephemeral)
      .key("log")
      .begin_object()
      .field("level", spec.log_level)
      .field("max_bytes", 10 << 20)
      .field("files", 3)
      .end_object();
  out.field("confinement", spec.require_confinement ? "require" : "auto").end_object();
  return std::move(out).take();
}

}  // namespace msb::supervisor
