// SPDX-License-Identifier: Apache-2.0
#include "supervisor/grammar.h"

#include <arpa/inet.h>

#include <algorithm>
#include <array>

#include "supervisor/grammar_text.h"
#include "supervisor/names.h"
#include "supervisor/quantities.h"

namespace msb::supervisor {
namespace {

constexpr std::array<std::string_view, 16> kRlimitNames = {
    "cpu",     "fsize", "data",  "stack",      "core",     "rss",  "nproc",  "nofile",
    "memlock", "as",    "locks", "sigpending", "msgqueue", "nice", "rtprio", "rttime"};

std::optional<std::uint16_t> parse_port_number(std::string_view text) {
  const auto number = parse_decimal(text);
  if (!number || *number > 65535) return std::nullopt;
  return static_cast<std::uint16_t>(*number);
}

Status parse_mount_options(std::string_view text, std::string_view whole, Mount& mount) {
  while (!text.empty()) {
    const auto comma = text.find(',');
    const std::string_view option = text.substr(0, comma);
    text = comma == std::string_view::npos ? std::string_view{} : text.substr(comma + 1);
    if (option == "ro" || option == "readonly") {
      mount.readonly = true;
    } else if (option == "rw") {
      if (mount.readonly) return invalid("mount", whole, "ro and rw contradict each other");
    } else if (option == "noexec") {
      mount.noexec = true;
    } else if (option == "nosuid") {
      mount.nosuid = true;
    } else if (option == "nodev") {
      mount.nodev = true;
    } else if (option.starts_with("size=") && mount.kind == Mount::Kind::kTmpfs) {
      MSB_ASSIGN(mount.size_mib, parse_size_mib(option.substr(5)));
    } else {
      return invalid("mount", whole,
                     "unknown option \"" + std::string(option) + "\" (ro, rw, noexec, nosuid, nodev)");
    }
  }
  return {};
}

}  // namespace

Result<std::string> parse_env(std::string_view text, GetEnv getenv_fn) {
  const auto equals = text.find('=');
  const std::string_view key = text.substr(0, equals);
  if (key.empty()) return invalid("environment variable", text, "expected KEY=VALUE or KEY");
  if (text.find('\0') != std::string_view::npos)
    return invalid("environment variable", key, "contains a NUL byte");
  if (equals != std::string_view::npos) return std::string(text);
  const char* value = getenv_fn != nullptr ? getenv_fn(std::string(key).c_str()) : nullptr;
  if (value == nullptr) {
    return invalid("environment variable", key, "it is not set here; use " + std::string(key) + "=VALUE");
  }
  return std::string(key) + "=" + value;
}

Result<std::vector<std::string>> parse_env_file(std::string_view text, GetEnv getenv_fn) {
  std::vector<std::string> out;
  std::size_t line_number = 0;
  while (!text.empty()) {
    const auto newline = text.find('\n');
    std::string_view line = text.substr(0, newline);
    text = newline == std::string_view::npos ? std::string_view{} : text.substr(newline + 1);
    ++line_number;
    if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
    const auto first = line.find_first_not_of(" \t");
    if (first == std::string_view::npos || line[first] == '#') continue;
    line.remove_prefix(first);
    auto entry = parse_env(line, getenv_fn);
    if (!entry.ok()) return std::move(entry).error().with_context("line " + std::to_string(line_number));
    out.push_back(std::move(entry).value());
  }
  return out;
}

Result<Label> parse_label(std::string_view text) {
  const auto equals = text.find('=');
  Label label{std::string(text.substr(0, equals)),
              equals == std::string_view::npos ? std::string{} : std::string(text.substr(equals + 1))};
  if (label.key.empty()) return invalid("label", text, "expected KEY=VALUE or KEY");
  for (const std::string_view prefix : {"msb.", "sandbox."}) {
    if (label.key.starts_with(prefix)) {
      return invalid("label", text, "keys that start with \"" + std::string(prefix) + "\" are reserved");
    }
  }
  for (const char c : text) {
    if (static_cast<unsigned char>(c) < 0x20)
      return invalid("label", label.key, "contains a control character");
  }
  return label;
}

Result<Rlimit> parse_rlimit(std::string_view text) {
  constexpr std::string_view kWanted =
      "expected NAME=SOFT[:HARD], such as nofile=1024:65536 or memlock=unlimited";
  const auto equals = text.find('=');
  if (equals == std::string_view::npos) return invalid("resource limit", text, kWanted);
  Rlimit limit;
  limit.resource = lower(text.substr(0, equals));
  if (limit.resource.starts_with("rlimit_")) limit.resource.erase(0, 7);
  if (std::find(kRlimitNames.begin(), kRlimitNames.end(), limit.resource) == kRlimitNames.end()) {
    std::string names;
    for (const std::string_view name : kRlimitNames) names += (names.empty() ? "" : ", ") + std::string(name);
    return invalid("resource limit", text, "unknown name \"" + limit.resource + "\" (" + names + ")");
  }
  const auto value = [](std::string_view word) -> std::optional<std::uint64_t> {
    const std::string w = lower(word);
    if (w == "unlimited" || w == "infinity" || w == "-1") return kRlimitUnlimited;
    return parse_amount_bytes(w, 1);
  };
  const std::string_view values = text.substr(equals + 1);
  const auto colon = values.find(':');
  const auto soft = value(values.substr(0, colon));
  const auto hard = colon == std::string_view::npos ? soft : value(values.substr(colon + 1));
  if (!soft || !hard) return invalid("resource limit", text, kWanted);
  if (*soft > *hard) return invalid("resource limit", text, "the soft limit is above the hard limit");
  limit.soft = *soft;
  limit.hard = *hard;
  return limit;
}

Result<PortMapping> parse_port(std::string_view text) {
  constexpr std::string_view kWanted =
      "expected [BIND:]HOST:GUEST[/tcp|/udp], such as 8080:80 or 0.0.0.0:53:53/udp";
  PortMapping port;
  std::string_view rest = text;
  if (const auto slash = rest.rfind('/'); slash != std::string_view::npos) {
    const std::string protocol = lower(rest.substr(slash + 1));
    if (protocol != "tcp" && protocol != "udp") return invalid("port", text, kWanted);
    port.udp = protocol == "udp";
    rest = rest.substr(0, slash);
  }
  const auto last = rest.rfind(':');
  const auto guest = parse_port_number(last == std::string_view::npos ? rest : rest.substr(last + 1));
  if (!guest || *guest == 0) return invalid("port", text, kWanted);
  port.guest = *guest;
  if (last == std::string_view::npos) return port;
  rest = rest.substr(0, last);
  const auto before = rest.rfind(':');
  const auto host = parse_port_number(before == std::string_view::npos ? rest : rest.substr(before + 1));
  if (!host) return invalid("port", text, kWanted);
  port.host = *host;
  if (before == std::string_view::npos) return port;
  std::string bind(rest.substr(0, before));
  if (bind.size() > 2 && bind.front() == '[' && bind.back() == ']') bind = bind.substr(1, bind.size() - 2);
  std::array<unsigned char, 16> raw{};
  if (::inet_pton(AF_INET, bind.c_str(), raw.data()) != 1 &&
      ::inet_pton(AF_INET6, bind.c_str(), raw.data()) != 1) {
    return invalid("port", text, "\"" + bind + "\" is not an IP address");
  }
  port.bind = std::move(bind);
  return port;
}

std::string format_port(const PortMapping& port) {
  const bool v6 = port.bind.find(':') != std::string::npos;
  return (v6 ? "[" + port.bind + "]" : port.bind) + ":" + std::to_string(port.host) + ":" +
         std::to_string(port.guest) + (port.udp ? "/udp" : "");
}

Result<HostSocket> parse_host_socket(std::string_view text) {
  constexpr std::string_view kStream = "/stream";
  std::string_view rest = text;
  if (rest.ends_with("/dgram")) return invalid("vsock", text, "datagrams are not supported");
  if (rest.ends_with(kStream)) rest.remove_suffix(kStream.size());
  const auto colon = rest.rfind(':');
  if (colon == std::string_view::npos || colon == 0 || rest[colon - 1] == '/')
    return invalid("vsock", text, "expected PATH:PORT, such as /run/agent.sock:5000");
  const auto port = parse_decimal(rest.substr(colon + 1));
  if (!port || *port < 2 || *port >= UINT32_MAX)
    return invalid("vsock", text, "the port must be 2 to 4294967294");
  return HostSocket{std::string(rest.substr(0, colon)), static_cast<std::uint32_t>(*port)};
}

std::string format_host_socket(const HostSocket& socket) {
  return socket.path + ":" + std::to_string(socket.port);
}

Result<Mount> parse_tmpfs(std::string_view text) {
  Mount mount;
  const auto colon = text.find(':');
  mount.target = std::string(text.substr(0, colon));
  MSB_TRY(check_guest_path(mount.target));
  if (colon == std::string_view::npos) return mount;
  std::string_view rest = text.substr(colon + 1);
  const auto separator = rest.find_first_of(":,");
  const std::string_view first = rest.substr(0, separator);
  if (!first.empty() && is_digit(first.front())) {
    MSB_ASSIGN(mount.size_mib, parse_size_mib(first));
    rest = separator == std::string_view::npos ? std::string_view{} : rest.substr(separator + 1);
  }
  MSB_TRY(parse_mount_options(rest, text, mount));
  return mount;
}

Result<Mount> parse_volume(std::string_view text) {
  Mount mount;
  const auto colon = text.find(':');
  if (colon == std::string_view::npos || colon == 0)
    return invalid("volume", text, "expected SRC:DST[:OPTIONS]");
  mount.source = std::string(text.substr(0, colon));
  const bool path = mount.source.front() == '.' || mount.source.front() == '/';
  mount.kind = path ? Mount::Kind::kBind : Mount::Kind::kVolume;
  if (!path) MSB_TRY(check_name(mount.source));
  const std::string_view rest = text.substr(colon + 1);
  const auto next = rest.find(':');
  mount.target = std::string(rest.substr(0, next));
  MSB_TRY(check_guest_path(mount.target));
  if (next != std::string_view::npos) MSB_TRY(parse_mount_options(rest.substr(next + 1), text, mount));
  return mount;
}

Result<RootDisk> parse_root_disk(std::string_view text) {
  RootDisk disk;
  if (text == "tmpfs" || text.starts_with("tmpfs:")) {
    disk.kind = RootDisk::Kind::kTmpfs;
    disk.size_mib = 0;
    if (text.size() > 6) {
      MSB_ASSIGN(disk.size_mib, parse_size_mib(text.substr(6)));
    }
    return disk;
  }
  MSB_ASSIGN(disk.size_mib, parse_size_mib(text));
  return disk;
}

Result<std::string> parse_detach_keys(std::string_view text) {
  std::string keys;
  while (!text.empty()) {
    const auto comma = text.find(',', 1);
    const std::string_view part = text.substr(0, comma);
    text = comma == std::string_view::npos ? std::string_view{} : text.substr(comma + 1);
    if (part.size() == 1) {
      keys += part.front();
    } else if (part.size() == 6 && part.starts_with("ctrl-")) {
      const char key = lower(part.back());
      if (key >= 'a' && key <= 'z') {
        keys += static_cast<char>(key - 'a' + 1);
      } else if (key == '@') {
        keys += '\0';
      } else if (const auto index = std::string_view("[\\]^_").find(key); index != std::string_view::npos) {
        keys += static_cast<char>(27 + index);
      } else {
        return invalid("detach keys", part, "ctrl- takes a letter or one of @ [ \\ ] ^ _");
      }
    } else {
      return invalid("detach keys", part, "expected single characters or ctrl-X, separated by commas");
    }
  }
  if (keys.size() > 8) return invalid("detach keys", "", "at most 8 keys are possible");
  return keys;
}

Result<Script> parse_script(std::string_view text, bool escapes) {
  const auto equals = text.find('=');
  if (equals == std::string_view::npos || equals == 0) return invalid("script", text, "expected NAME=BODY");
  Script script{std::string(text.substr(0, equals)), {}};
  MSB_TRY(check_name(script.name));
  std::string_view body = text.substr(equals + 1);
  for (std::size_t i = 0; i < body.size(); ++i) {
    constexpr std::string_view kFrom = "ntr\\\"'";
    constexpr std::string_view kTo = "\n\t\r\\\"'";
    if (escapes && body[i] == '\\' && i + 1 < body.size()) {
      const auto index = kFrom.find(body[i + 1]);
      if (index != std::string_view::npos) {
        script.body += kTo[index];
        ++i;
        continue;
      }
    }
    script.body += body[i];
  }
  return script;
}

}  // namespace msb::supervisor
