// SPDX-License-Identifier: Apache-2.0
#include "tools/msb/spec_flags.h"

#include <limits.h>
#include <unistd.h>

#include <array>
#include <cstdlib>

#include "base/file.h"
#include "supervisor/conf_file.h"
#include "supervisor/grammar.h"
#include "supervisor/names.h"
#include "supervisor/quantities.h"
#include "tools/msb/cli.h"
#include "tools/msb/net_flags.h"

namespace msb::cli {
namespace {

using namespace msb::supervisor;  // NOLINT: this file turns words into its values

enum SpecOption : int {
  kName = 200,
  kCpus,
  kMaxCpus,
  kMemory,
  kMaxMemory,
  kEnv,
  kEnvFile,
  kUser,
  kWorkdir,
  kHostname,
  kEntrypoint,
  kShell,
  kLabel,
  kRlimit,
  kMaxDuration,
  kIdleTimeout,
  kStopTimeout,
  kStopSignal,
  kReplace,
  kReplaceWithTimeout,
  kRm,
  kRootDisk,
  kTmpfs,
  kVolume,
  kVsock,
  kPull,
  kInit,
  kInitArg,
  kInitEnv,
  kScript,
  kScriptRaw,
  kScriptPath,
  kCopyFile,
  kCopyDir,
  kMkdir,
  kRemove,
  kConf,
  kRequireConfinement,
  kQuiet,
  kLogLevel,
};

constexpr auto kSpecOptions = std::to_array<Option>({
    {kName, "name", 'n', "NAME", "Name; a named sandbox stays, an unnamed one of run is gone at its end"},
    {kCpus, "cpus", 'c', "N", "Virtual CPUs (1)"},
    {kMaxCpus, "max-cpus", 0, "N", "CPUs it can be given while it runs"},
    {kMemory, "memory", 'm', "SIZE", "Memory ceiling, taken from the host only as used (2G)"},
    {kMaxMemory, "max-memory", 0, "SIZE", "Memory it can be given while it runs"},
    {kEnv, "env", 'e', "KEY[=VALUE]", "Environment variable; without a value, this one's"},
    {kEnvFile, "env-file", 0, "FILE", "Environment variables, one a line"},
    {kUser, "user", 'u', "USER[:GROUP]", "User of its commands"},
    {kWorkdir, "workdir", 'w', "PATH", "Working directory of its commands"},
    {kHostname, "hostname", 'H', "NAME", "Host name (the sandbox's name)"},
    {kEntrypoint, "entrypoint", 0, "PROGRAM", "Program in place of the image's entrypoint"},
    {kShell, "shell", 0, "PATH", "Shell for msb shell and scripts (/bin/sh)"},
    {kLabel, "label", 'l', "KEY[=VALUE]", "Label, for selecting"},
    {kRlimit, "rlimit", 0, "NAME=SOFT[:HARD]", "Resource limit of all its commands"},
    {kMaxDuration, "max-duration", 0, "TIME", "Stop it after this long"},
    {kIdleTimeout, "idle-timeout", 0, "TIME", "Stop it when nothing happened for this long"},
    {kStopTimeout, "stop-timeout", 0, "TIME", "Time between the stop signal and the kill (10s)"},
    {kStopSignal, "stop-signal", 0, "SIGNAL", "Signal that asks its commands to end (the image's, SIGTERM)"},
    {kReplace, "replace", 0, "", "Remove a sandbox that has the name already"},
    {kReplaceWithTimeout, "replace-with-timeout", 0, "TIME",
     "The same, with this grace for its stop (0: none)"},
    {kRm, "rm", 0, "", "Remove it when it ends, even if it has a name"},
    {kRootDisk, "root-disk", 0, "SIZE|tmpfs[:SIZE]",
     "Ceiling of the writable disk (64G, sparse), or keep writes in memory"},
    {kTmpfs, "tmpfs", 0, "PATH[:SIZE][,OPTS]", "Memory filesystem at PATH"},
    {kVolume, "volume", 'v', "SRC:DST[:OPTS]", "Host folder or volume at DST"},
    {kVsock, "vsock", 0, "PATH:PORT", "Host Unix socket that the guest reaches at vsock CID 2, PORT"},
    {kPull, "pull", 0, "POLICY", "if-missing, always or never"},
    {kInit, "init", 0, "PATH|auto", "Program that becomes process 1 (systemd, s6, ...)"},
    {kInitArg, "init-arg", 0, "WORD", "Argument of it"},
    {kInitEnv, "init-env", 0, "KEY=VALUE", "Environment of it"},
    {kScript, "script", 0, "NAME=BODY", "Script on the PATH; \\n and \\t in BODY are read"},
    {kScriptRaw, "script-raw", 0, "NAME=BODY", "Script on the PATH, BODY as it stands"},
    {kScriptPath, "script-path", 0, "NAME:FILE", "Script on the PATH, from a file"},
    {kCopyFile, "copy-file", 0, "SRC:DST", "Copy a file into it before anything runs"},
    {kCopyDir, "copy-dir", 0, "SRC:DST", "Copy a folder into it before anything runs"},
    {kMkdir, "mkdir", 0, "PATH", "Make a folder in it before anything runs"},
    {kRemove, "remove", 0, "PATH", "Remove a path in it before anything runs"},
    {kConf, "conf", 0, "FILE", "Read a configuration file (YAML or JSON)"},
    {kRequireConfinement, "require-confinement", 0, "",
     "Refuse to start where this host lacks a layer of confinement"},
    {kQuiet, "quiet", 'q', "", "No progress"},
    {kLogLevel, "log-level", 0, "LEVEL", "What its machine logs (info)"},
});

constexpr std::array<Option, 6> kCommandOptions = {{
    {kCmdTty, "tty", 't', "", "Give the command a terminal"},
    {kCmdNoTty, "no-tty", 0, "", "Never give it one"},
    {kCmdInteractive, "interactive", 'i', "", "Accepted for habit: input is always passed on"},
    {kCmdTimeout, "timeout", 0, "TIME", "Kill the command after this long"},
    {kCmdDetachKeys, "detach-keys", 0, "KEYS", "Keys that leave it running (ctrl-]); empty: none"},
    {kCmdNoLog, "no-log", 0, "", "Keep its output out of the sandbox's logs"},
}};

const char* host_environment(const char* name) { return std::getenv(name); }

Result<std::pair<std::string, std::string>> split_copy(const Given& given) {
  const std::string_view value = given.value;
  const std::string name = "--" + std::string(given.name);
  const auto colon = value.rfind(":/");
  if (colon == std::string_view::npos || colon == 0) {
    return usage_error(name + ": \"" + std::string(value) + "\" is not SRC:DST with an absolute DST");
  }
  MSB_ASSIGN(std::string source, absolute_path(value.substr(0, colon)));
  if (::access(source.c_str(), R_OK) != 0) return sys_error(name + " " + source);
  return std::pair<std::string, std::string>(std::move(source), value.substr(colon + 1));
}

Result<std::uint32_t> parse_cpus(const Given& given) {
  const auto count = parse_decimal(given.value);
  if (!count || *count < 1 || *count > kMaxCpus) {
    return usage_error("--" + std::string(given.name) + ": must be 1 to " + std::to_string(kMaxCpus));
  }
  return static_cast<std::uint32_t>(*count);
}

Status apply(const Given& given, SpecFlags& out) {
  SandboxSpec& spec = out.spec;
  const std::string_view value = given.value;
  switch (static_cast<SpecOption>(given.id)) {
    case kName:
      spec.name = value;
      break;
    case kCpus: {
      MSB_ASSIGN(spec.cpus, parse_cpus(given));
      break;
    }
    case kMaxCpus: {
      MSB_ASSIGN(spec.max_cpus, parse_cpus(given));
      break;
    }
    case kMemory: {
      MSB_ASSIGN(spec.memory_mib, flag_value(given.name, parse_size_mib(value)));
      break;
    }
    case kMaxMemory: {
      MSB_ASSIGN(spec.max_memory_mib, flag_value(given.name, parse_size_mib(value)));
      break;
    }
    case kUser:
      spec.user = value;
      break;
    case kWorkdir:
      spec.workdir = value;
      break;
    case kHostname:
      spec.hostname = value;
      break;
    case kEntrypoint:
      spec.entrypoint =
          value.empty() ? std::vector<std::string>{} : std::vector<std::string>{std::string(value)};
      break;
    case kShell:
      spec.shell = value;
      break;
    case kLabel: {
      MSB_ASSIGN(Label label, flag_value(given.name, parse_label(value)));
      std::erase_if(spec.labels, [&](const Label& other) { return other.key == label.key; });
      spec.labels.push_back(std::move(label));
      break;
    }
    case kRlimit: {
      MSB_ASSIGN(Rlimit limit, flag_value(given.name, parse_rlimit(value)));
      spec.rlimits.push_back(std::move(limit));
      break;
    }
    case kMaxDuration: {
      MSB_ASSIGN(spec.max_duration_ms, flag_value(given.name, parse_duration_ms(value)));
      break;
    }
    case kIdleTimeout: {
      MSB_ASSIGN(spec.idle_timeout_ms, flag_value(given.name, parse_duration_ms(value)));
      break;
    }
    case kStopTimeout: {
      MSB_ASSIGN(spec.stop_timeout_ms, flag_value(given.name, parse_duration_ms(value)));
      break;
    }
    case kStopSignal:
      spec.stop_signal = value;
      break;
    case kReplace:
      out.replace = true;
      break;
    case kReplaceWithTimeout: {
      out.replace = true;
      MSB_ASSIGN(out.replace_grace_ms, flag_value(given.name, parse_duration_ms(value)));
      break;
    }
    case kRm:
      spec.ephemeral = true;
      break;
    case kRootDisk: {
      MSB_ASSIGN(spec.root_disk, flag_value(given.name, parse_root_disk(value)));
      break;
    }
    case kTmpfs: {
      MSB_ASSIGN(Mount mount, flag_value(given.name, parse_tmpfs(value)));
      spec.mounts.push_back(std::move(mount));
      break;
    }
    case kVolume: {
      MSB_ASSIGN(Mount mount, flag_value(given.name, parse_volume(value)));
      if (mount.kind == Mount::Kind::kBind) {
        MSB_ASSIGN(mount.source, absolute_path(mount.source));
      }
      spec.mounts.push_back(std::move(mount));
      break;
    }
    case kVsock: {
      MSB_ASSIGN(HostSocket socket, flag_value(given.name, parse_host_socket(value)));
      MSB_ASSIGN(socket.path, absolute_path(socket.path));
      spec.host_sockets.push_back(std::move(socket));
      break;
    }
    case kPull:
      if (value == "if-missing" || value == "missing") {
        spec.pull = PullPolicy::kIfMissing;
      } else if (value == "always") {
        spec.pull = PullPolicy::kAlways;
      } else if (value == "never") {
        spec.pull = PullPolicy::kNever;
      } else {
        return usage_error("--pull: must be if-missing, always or never");
      }
      break;
    case kInit:
      if (!spec.init) spec.init.emplace();
      spec.init->path = value;
      break;
    case kInitArg:
      if (!spec.init) spec.init.emplace();
      spec.init->args.emplace_back(value);
      break;
    case kInitEnv: {
      if (!spec.init) spec.init.emplace();
      MSB_ASSIGN(std::string entry, flag_value(given.name, parse_env(value, host_environment)));
      spec.init->env.push_back(std::move(entry));
      break;
    }
    case kScript:
    case kScriptRaw: {
      MSB_ASSIGN(Script script, flag_value(given.name, parse_script(value, given.id == kScript)));
      spec.scripts.push_back(std::move(script));
      break;
    }
    case kScriptPath: {
      const auto colon = value.find(':');
      if (colon == std::string_view::npos) return usage_error("--script-path: expected NAME:FILE");
      MSB_ASSIGN(std::string body, read_file(std::string(value.substr(colon + 1)), std::size_t{1} << 20));
      spec.scripts.push_back({std::string(value.substr(0, colon)), std::move(body)});
      break;
    }
    case kCopyFile:
    case kCopyDir: {
      const bool file = given.id == kCopyFile;
      MSB_ASSIGN(auto pair, split_copy(given));
      Patch patch;
      patch.op = file ? Patch::Op::kFile : Patch::Op::kDir;
      patch.source = std::move(pair.first);
      patch.path = std::move(pair.second);
      spec.patches.push_back(std::move(patch));
      break;
    }
    case kMkdir:
    case kRemove: {
      Patch patch;
      patch.op = given.id == kMkdir ? Patch::Op::kMkdir : Patch::Op::kRemove;
      patch.path = value;
      spec.patches.push_back(std::move(patch));
      break;
    }
    case kRequireConfinement:
      spec.require_confinement = true;
      break;
    case kQuiet:
      out.quiet = true;
      break;
    case kLogLevel:
      spec.log_level = value;
      break;
    case kEnv:
    case kEnvFile:
    case kConf:
      break;  // taken together, elsewhere
  }
  return {};
}

void set_env(std::vector<std::string>& env, std::string entry) {
  const std::string_view key = std::string_view(entry).substr(0, entry.find('=') + 1);
  std::erase_if(env, [&](const std::string& other) { return other.starts_with(key); });
  env.push_back(std::move(entry));
}

}  // namespace

Result<std::string> absolute_path(std::string_view path) {
  if (path.starts_with("/")) return std::string(path);
  std::array<char, PATH_MAX> here{};
  if (::getcwd(here.data(), here.size()) == nullptr) return sys_error("find the current directory");
  return std::string(here.data()) + "/" + std::string(path);
}

std::span<const Option> spec_options() { return kSpecOptions; }
std::span<const Option> command_options() { return kCommandOptions; }

Result<std::vector<std::string>> env_from_flags(const Parsed& args, int env_id, int file_id) {
  std::vector<std::string> out;
  for (const Given& given : args.options) {
    if (given.id == env_id) {
      MSB_ASSIGN(std::string entry, flag_value(given.name, parse_env(given.value, host_environment)));
      out.push_back(std::move(entry));
    } else if (given.id == file_id) {
      const std::string path(given.value);
      MSB_ASSIGN(const std::string text, read_file(path, std::size_t{1} << 20));
      auto entries = parse_env_file(text, host_environment);
      if (!entries.ok()) return usage_error("--env-file " + path + ": " + entries.error().text);
      for (std::string& entry : *entries) out.push_back(std::move(entry));
    }
  }
  return out;
}

Result<SpecFlags> spec_from_flags(const Parsed& args) {
  SpecFlags out;
  std::vector<ConfFile> files;
  for (const std::string_view name : args.all(kConf)) {
    MSB_ASSIGN(std::string path, absolute_path(name));
    MSB_ASSIGN(std::string text, read_file(path, kMaxConfBytes + 1));
    files.push_back({std::move(path), std::move(text)});
  }
  if (!files.empty()) {
    auto spec = spec_from_conf(files, host_environment);
    if (!spec.ok()) return usage_error(spec.error().text);
    out.spec = std::move(spec).value();
  }
  for (const Given& given : args.options) {
    if (given.id >= kFirstNetOption && given.id <= kLastNetOption) out.shaped = true;
    if (given.id < kName || given.id > kLogLevel) continue;
    if (given.id != kName && given.id != kQuiet && given.id != kReplace && given.id != kReplaceWithTimeout)
      out.shaped = true;
    MSB_TRY(apply(given, out));
  }
  MSB_TRY(apply_net_flags(args, out.spec.network));
  MSB_ASSIGN(std::vector<std::string> env, env_from_flags(args, kEnv, kEnvFile));
  for (std::string& entry : env) set_env(out.spec.env, std::move(entry));
  if (!args.positionals.empty()) out.spec.image = args.positionals.front();
  if (out.spec.image.empty()) return usage_error("no image is given");
  if (looks_like_path(out.spec.image)) {
    return usage_error(
        "\"" + out.spec.image +
        "\" is a path; make an image of it first: msb load -i ARCHIVE, msb load --rootfs NAME -i "
        "DIRECTORY or msb load --disk NAME -i FILE");
  }
  if (out.spec.init && out.spec.init->path.empty())
    return usage_error("--init-arg and --init-env need --init");
  if (const auto valid = validate_spec(out.spec); !valid.ok()) return usage_error(valid.error().text);
  return out;
}

}  // namespace msb::cli
