// SPDX-License-Identifier: Apache-2.0
// What the guest agent is told before it starts: /msb/boot.json in the initial ramdisk. Strict: an unknown
// key, a wrong type or a value out of range stops the boot with an error that names it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "proto/agent.h"

namespace msb::proto {

inline constexpr std::string_view kBootConfigPath = "/msb/boot.json";
// Scripts and patches travel in it, so it may be larger than a frame.
inline constexpr JsonLimits kBootConfigLimits{
    .max_bytes = std::size_t{16} << 20, .max_depth = 8, .max_values = 250'000};

struct GuestConfig {
  std::string hostname = "msb";
  std::string root_device = "vda";  // below /dev
  std::string root_fs = "erofs";
  std::optional<std::string> upper_device;  // ext4 below /dev; nullopt: a tmpfs that is gone with the machine
  std::uint64_t upper_tmpfs_mib = 0;  // limit of that tmpfs; 0: half of memory, the kernel's own default

  struct Mount {
    std::string kind;  // "tmpfs" is what this version knows
    std::string target;
    std::uint64_t size_mib = 0;  // 0: the kernel's default
    std::string options;         // comma-separated, e.g. "ro,noexec,mode=1777"
  };
  std::vector<Mount> mounts;

  struct Address {
    std::string address;  // text form
    std::uint8_t prefix = 0;
    std::string gateway;  // empty: none
  };
  struct Net {
    std::string interface = "eth0";
    std::string mac;  // empty: leave as the device has it
    std::uint32_t mtu = 1500;
    std::optional<Address> ipv4;
    std::optional<Address> ipv6;
    std::vector<std::string> dns;
    std::vector<std::string> search;
  };
  std::optional<Net> net;

  struct Host {
    std::string ip;
    std::vector<std::string> names;
  };
  std::vector<Host> hosts;

  std::vector<std::string> env;  // defaults of every session
  std::string user;
  std::string workdir;
  std::vector<ResourceLimit> rlimits;
  std::string shell = "/bin/sh";
  std::string stop_signal = "SIGTERM";  // a name or a number

  struct Init {
    std::string path;
    std::vector<std::string> args;  // without argv[0]
    std::vector<std::string> env;
  };
  std::optional<Init> init;  // becomes PID 1 once the agent has set up

  struct File {
    std::string path;
    std::uint32_t mode = 0644;
    std::string data;  // any bytes; "data_b64" in JSON
  };
  std::vector<File> files;  // written into the root before anything runs

  std::int64_t clock_ns = 0;  // wall clock at boot; 0: leave
  std::string entropy;        // up to 512 bytes of seed; "entropy_b64" in JSON. Secret: never logged

  void write(JsonWriter& out) const;
  [[nodiscard]] static Result<GuestConfig> parse(const JsonView& value);
};

// The number of a signal given as "SIGTERM", "TERM", "RTMIN+3", "SIGRTMIN+3" or "15"; nullopt if there is
// none such.
[[nodiscard]] std::optional<int> signal_number(std::string_view text);

}  // namespace msb::proto
