// SPDX-License-Identifier: Apache-2.0
// The grammars of flags and configuration files that make one of the specification's values: environment,
// labels, resource limits, ports, mounts, disks, scripts, detach keys. Sizes and times stand in quantities.h,
// names in names.h.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "supervisor/spec.h"

namespace msb::supervisor {

// "KEY=VALUE", or "KEY" alone, which takes the value from `getenv_fn` and fails when it is not set.
using GetEnv = const char* (*)(const char*);
[[nodiscard]] Result<std::string> parse_env(std::string_view text, GetEnv getenv_fn);
// An env file: one KEY=VALUE or KEY per line, '#' comments and empty lines skipped, values taken as they are.
[[nodiscard]] Result<std::vector<std::string>> parse_env_file(std::string_view text, GetEnv getenv_fn);

// "KEY=VALUE" or "KEY" (empty value). The prefixes "msb." and "sandbox." are ours.
[[nodiscard]] Result<Label> parse_label(std::string_view text);

// "nofile=1024", "nofile=1024:65536", "memlock=unlimited", "as=2G" (for byte limits K/M/G/T work).
[[nodiscard]] Result<Rlimit> parse_rlimit(std::string_view text);

// "8080:80", "0:80" (host picks), "80" (host picks), "127.0.0.1:8080:80/udp", "[::1]:8080:80".
[[nodiscard]] Result<PortMapping> parse_port(std::string_view text);
[[nodiscard]] std::string format_port(const PortMapping& port);

// "/run/user/1000/agent.sock:5000" or the same with "/stream" behind it.
[[nodiscard]] Result<HostSocket> parse_host_socket(std::string_view text);
[[nodiscard]] std::string format_host_socket(const HostSocket& socket);

// "PATH", "PATH:64M", "PATH:64M,noexec".
[[nodiscard]] Result<Mount> parse_tmpfs(std::string_view text);
// "SRC:DST[:ro,noexec,nosuid,nodev]"; SRC with a leading '.' or '/' is a host path, otherwise a volume's
// name.
[[nodiscard]] Result<Mount> parse_volume(std::string_view text);

// "64G" or "tmpfs" or "tmpfs:512M".
[[nodiscard]] Result<RootDisk> parse_root_disk(std::string_view text);

// "ctrl-p,ctrl-q", "ctrl-]", "x": the bytes that detach. 1 to 8 keys. An empty text switches detaching off.
[[nodiscard]] Result<std::string> parse_detach_keys(std::string_view text);

// NAME=BODY with the escapes \n \t \r \\ \" \' in BODY.
[[nodiscard]] Result<Script> parse_script(std::string_view text, bool escapes);

}  // namespace msb::supervisor
