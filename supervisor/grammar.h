// SPDX-License-Identifier: Apache-2.0
// The value grammars of flags and configuration files: sizes, durations, environment, labels, ports, resource
// limits, users, mounts, names, detach keys. Pure text in, typed values out; every parser takes exactly what
// it documents and says in its error what was given and what would be right.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "supervisor/spec.h"

namespace msb::supervisor {

// "512M", "1.5G", "64GiB", "2T", "4096K"; a bare number counts MiB. Binary multiples whatever the spelling
// (K, KB, KiB, ... in any case). Rounded up to whole MiB; at least 1 MiB, at most 1 PiB.
[[nodiscard]] Result<std::uint64_t> parse_size_mib(std::string_view text);
// The shortest exact spelling parse_size_mib reads back: "512M", "2G", "1T".
[[nodiscard]] std::string format_size_mib(std::uint64_t mib);

// The same grammar in bytes: a bare number counts bytes. At most 1 PiB.
[[nodiscard]] Result<std::uint64_t> parse_size_bytes(std::string_view text);
// "10M", "10M/s", "600/1m": an amount, and the time it is for (one second). Per second, at least 1.
[[nodiscard]] Result<std::uint64_t> parse_rate(std::string_view text);

// "250ms", "90", "90s", "1h30m", "2d"; a bare number counts seconds, units go from large to small, decimals
// are allowed in the last part ("1.5h"). In milliseconds; at most 10 years.
[[nodiscard]] Result<std::int64_t> parse_duration_ms(std::string_view text);
[[nodiscard]] std::string format_duration_ms(std::int64_t ms);

// A moment for --since/--until: RFC 3339 ("2026-05-01T10:00:00Z", with fraction and offset) or a duration,
// which means that long before `now_ns`. Nanoseconds since 1970.
[[nodiscard]] Result<std::int64_t> parse_moment_ns(std::string_view text, std::int64_t now_ns);
// RFC 3339 in UTC with `digits` (0..9) of a second's fraction.
[[nodiscard]] std::string format_rfc3339(std::int64_t wall_ns, int digits = 3);

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

// A sandbox's name: 1 to 128 of [A-Za-z0-9._-], starting with a letter or digit.
[[nodiscard]] Status check_name(std::string_view name);
// A host name: 1 to 64 of letters, digits, '-' and '.', starting and ending with a letter or digit.
[[nodiscard]] Status check_hostname(std::string_view name);
// "name", "uid", "name:group", "uid:gid": what the guest resolves. Refuses empty parts and control
// characters.
[[nodiscard]] Status check_user(std::string_view user);
// An absolute guest path without ".." parts and NUL, at most 4095 bytes.
[[nodiscard]] Status check_guest_path(std::string_view path);
// "SIGTERM", "TERM", "15", "SIGRTMIN+3" -> number.
[[nodiscard]] Result<int> parse_signal(std::string_view text);
// "SIGTERM" for 15; "signal 99" for what has no name.
[[nodiscard]] std::string signal_name(int number);

// "ctrl-p,ctrl-q", "ctrl-]", "x": the bytes that detach. 1 to 8 keys. An empty text switches detaching off.
[[nodiscard]] Result<std::string> parse_detach_keys(std::string_view text);

// NAME=BODY with the escapes \n \t \r \\ \" \' in BODY.
[[nodiscard]] Result<Script> parse_script(std::string_view text, bool escapes);

// True when `text` should be read as a path and not as an image reference: "." ".." "/..." "./..." "../...".
[[nodiscard]] bool looks_like_path(std::string_view text);

// Unsigned decimal without sign or blanks that fits; nullopt otherwise.
[[nodiscard]] std::optional<std::uint64_t> parse_decimal(std::string_view text);

}  // namespace msb::supervisor
