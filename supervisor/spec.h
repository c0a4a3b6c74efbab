// SPDX-License-Identifier: Apache-2.0
// SandboxSpec: everything that is asked of a sandbox, as a plain value. Its JSON form is what `--conf` reads
// and what `spec.json` in the sandbox's directory holds; docs/conf.schema.json is its schema.
//
// Included through supervisor/supervisor.h; a program that embeds msb includes only that.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"

namespace msb::supervisor {

struct Label {
  std::string key;
  std::string value;
  friend bool operator==(const Label&, const Label&) = default;
};

inline constexpr std::uint64_t kRlimitUnlimited = UINT64_MAX;
struct Rlimit {
  std::string resource;  // "nofile", "nproc", ... as in setrlimit(2) without RLIMIT_, lower case
  std::uint64_t soft = 0;
  std::uint64_t hard = 0;
  friend bool operator==(const Rlimit&, const Rlimit&) = default;
};

struct PortMapping {
  std::string bind = "127.0.0.1";  // host address, IPv4 or IPv6
  std::uint16_t host = 0;          // 0: the host picks
  std::uint16_t guest = 0;
  bool udp = false;
  friend bool operator==(const PortMapping&, const PortMapping&) = default;
};

// A host Unix stream socket that the guest reaches by connecting a vsock to CID 2 and `port`.
struct HostSocket {
  std::string path;        // absolute
  std::uint32_t port = 0;  // 2 to 2^32 - 2
  friend bool operator==(const HostSocket&, const HostSocket&) = default;
};

struct Mount {
  enum class Kind : std::uint8_t { kTmpfs, kBind, kVolume };
  Kind kind = Kind::kTmpfs;
  std::string source;          // host path or volume name; empty for tmpfs
  std::string target;          // absolute guest path
  std::uint64_t size_mib = 0;  // tmpfs: 0 = half of the guest's memory
  bool readonly = false;
  bool noexec = false;
  bool nosuid = false;
  bool nodev = false;
  friend bool operator==(const Mount&, const Mount&) = default;
};

struct RootDisk {
  enum class Kind : std::uint8_t { kDisk, kTmpfs };
  Kind kind = Kind::kDisk;
  std::uint64_t size_mib = 64 * 1024;  // a ceiling: the disk is sparse; tmpfs: 0 = half of the guest's memory
  friend bool operator==(const RootDisk&, const RootDisk&) = default;
};

struct Script {
  std::string name;  // a file name; the script lands on the PATH of every session
  std::string body;
  friend bool operator==(const Script&, const Script&) = default;
};

// A change to the root filesystem before the sandbox's first command runs.
struct Patch {
  enum class Op : std::uint8_t { kText, kFile, kDir, kAppend, kMkdir, kSymlink, kRemove };
  Op op = Op::kText;
  std::string path;     // absolute guest path that changes
  std::string content;  // kText, kAppend: bytes; kSymlink: target
  std::string source;   // kFile, kDir: host path, read when the sandbox is created
  std::optional<std::uint32_t> mode;
  friend bool operator==(const Patch&, const Patch&) = default;
};

// A program that takes over process 1 after the agent has set the guest up.
struct InitHandoff {
  std::string path;  // absolute guest path, or "auto"
  std::vector<std::string> args;
  std::vector<std::string> env;
  friend bool operator==(const InitHandoff&, const InitHandoff&) = default;
};

// What the guest may reach, and who may reach it. Words are in the grammar of proto/net_rule.h and
// proto/net_spec.h; check_network() refuses what msb-net could not enforce.
struct NetworkSpec {
  struct Rate {  // 0: no limit; bursts are a credit at the start
    std::uint64_t bytes_per_s = 0;
    std::uint64_t burst_bytes = 0;
    std::uint64_t packets_per_s = 0;
    std::uint64_t burst_packets = 0;
    friend bool operator==(const Rate&, const Rate&) = default;
  };
  bool enabled = true;  // false: the guest has no network device
  std::vector<PortMapping> ports;
  std::vector<std::string> profiles;  // empty: public, unless a default is given
  std::vector<std::string> rules;
  std::string default_egress;   // "allow", "deny" or empty
  std::string default_ingress;  // likewise
  bool strict = true;           // a name rule allows only what the flow itself confirms
  bool observe = false;         // let pass what could be allowed at all, and note the rules it needed
  std::vector<std::string> nameservers;  // ADDRESS or ADDRESS:PORT; empty: the host's
  std::uint64_t dns_timeout_ms = 0;      // 0: msb-net's own
  bool rebind_protection = true;
  Rate egress;
  Rate ingress;
  std::uint64_t max_connections = 0;  // 0: msb-net's own
  std::uint64_t max_total_bytes = 0;  // 0: no limit
  std::string proxy;                  // "socks5://[USER@]ADDRESS:PORT", socks4 or http; empty: none
  std::string proxy_password_file;    // host file, read at each start; empty: the proxy asks for none
  std::string pcap;                   // host file for the sandbox's frames; empty: none
  std::uint64_t pcap_limit = 0;       // bytes of that file, after which the capture stops; 0: msb-net's own
  friend bool operator==(const NetworkSpec&, const NetworkSpec&) = default;
};

enum class PullPolicy : std::uint8_t { kIfMissing, kAlways, kNever };

inline constexpr std::uint32_t kDefaultCpus = 1;
inline constexpr std::uint64_t kDefaultMemoryMib = 2048;
inline constexpr std::uint64_t kMinMemoryMib = 64;
inline constexpr std::uint32_t kMaxCpus = 64;

struct SandboxSpec {
  std::string name;   // empty: "msb-" and eight hex digits
  std::string image;  // OCI reference
  PullPolicy pull = PullPolicy::kIfMissing;

  std::uint32_t cpus = kDefaultCpus;
  std::uint32_t max_cpus = 0;  // 0: as cpus
  std::uint64_t memory_mib = kDefaultMemoryMib;
  std::uint64_t max_memory_mib = 0;  // 0: as memory
  RootDisk root_disk;

  // Unset: what the image says.
  std::optional<std::vector<std::string>> entrypoint;
  std::optional<std::vector<std::string>> cmd;
  std::vector<std::string> env;  // KEY=VALUE, over the image's
  std::string workdir;
  std::string user;
  std::string shell;        // empty: /bin/sh
  std::string hostname;     // empty: from the name
  std::string stop_signal;  // empty: the image's, else SIGTERM
  std::vector<Label> labels;
  std::vector<Rlimit> rlimits;

  std::vector<Mount> mounts;
  std::vector<Script> scripts;
  std::vector<Patch> patches;
  std::optional<InitHandoff> init;
  NetworkSpec network;
  std::vector<HostSocket> host_sockets;

  std::int64_t max_duration_ms = 0;  // 0: no limit
  std::int64_t idle_timeout_ms = 0;  // 0: never
  std::int64_t stop_timeout_ms = 10'000;
  bool ephemeral = false;            // removed when it ends
  bool require_confinement = false;  // refuse to run where the host lacks a layer of confinement
  std::string log_level = "info";

  friend bool operator==(const SandboxSpec&, const SandboxSpec&) = default;
};

// JSON text of `spec`; only what differs from a default-made spec is written. `pretty` for people.
[[nodiscard]] std::string spec_to_json(const SandboxSpec& spec, bool pretty = false);
// Wrong types and impossible values are kInvalid, with the path of the value. Unknown keys are refused from
// people (kRefuse) and skipped in state files (kIgnore), where a newer msb may have written them.
enum class UnknownKeys : std::uint8_t { kRefuse, kIgnore };
[[nodiscard]] Result<SandboxSpec> spec_from_json(std::string_view json,
                                                 UnknownKeys unknown = UnknownKeys::kRefuse);
// Checks what spans fields (limits against each other, duplicate names, targets); both directions call it.
[[nodiscard]] Status validate_spec(const SandboxSpec& spec);

}  // namespace msb::supervisor
