// SPDX-License-Identifier: Apache-2.0
// VmSpec: what msb-vmm is told at its start, one JSON document on the descriptor --spec-fd, read to its end.
//
//   {"version":1, "name":"x", "dir":"/abs/sandboxes/x", "kernel":"/abs/vmlinux", "initrd":"/abs/agent.cpio",
//    "cmdline_extra":"", "cpus":{"online":1,"max":1,"template":"host"|"conservative"},
//    "memory_mib":{"size":512,"max":512},
//    "root":{"kind":"erofs" or "disk" (any file system; the guest's config names
//    it),"extents":[{"path":"/abs/blob","offset":0,"length":4096},...]},
//    "upper":{"kind":"ext4","path":"/abs/upper.ext4"} | {"kind":"tmpfs","size_mib":0},
//    "disks":[{"path":"/abs/disk","readonly":false,"id":"data"},...],
//    "net":{"enabled":true,"config":{NetSpec},"secrets_fd":null,"pcap":"/abs/file"},
//    "host_sockets":[{"port":5000,"path":"/abs/socket"},...],
//    "guest":{GuestConfig}, "main":null|{ExecRequest}, "leash_fd":null, "ready_fd":null,
//    "timeouts":{"boot_s":60,"stop_grace_s":10,"max_duration_s":0,"idle_s":0}, "ephemeral":false,
//    "log":{"level":"info","max_bytes":10485760,"files":3}, "confinement":"auto"|"require"}
//
// version, name, dir, kernel, initrd and root must be there; null and absent mean the default. Unknown
// members and contradictions (max below size, a disk that is both root and writable, ...) are refused with
// the path of the member. Paths are absolute.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace msb::proto {

struct VmSpec {
  struct Extent {
    std::string path;
    std::uint64_t offset = 0;  // bytes, a multiple of 4096
    std::uint64_t length = 0;  // bytes, a positive multiple of 4096
  };
  struct Disk {
    std::string path;
    bool read_only = false;
    std::string id;  // the guest's /dev/disk serial, at most 20 printable bytes
  };
  struct Net {
    bool enabled = false;
    std::string config;             // NetSpec as JSON, for msb-net; not looked into here
    std::optional<int> secrets_fd;  // passed on to msb-net, which reads it to its end
    std::string pcap;               // host file for the frames, made anew at every start; empty: none
  };
  // A guest's vsock connection to CID 2 and `port` reaches the Unix stream socket at `path`.
  struct HostSocket {
    std::uint32_t port = 0;  // neither 0, the agent's kReadyPort nor 2^32 - 1
    std::string path;
  };
  struct Timeouts {
    std::uint64_t boot_s = 60;         // start to the agent's READY
    std::uint64_t stop_grace_s = 10;   // of a stop that does not say
    std::uint64_t max_duration_s = 0;  // 0: none
    std::uint64_t idle_s = 0;          // 0: none
  };
  struct Log {
    std::string level = "info";
    std::uint64_t max_bytes = std::uint64_t{10} << 20;  // of one file
    std::uint64_t files = 3;                            // with the rotated ones
  };
  enum class Confinement : std::uint8_t { kAuto, kRequire };

  std::string name;
  std::string dir;
  std::string kernel;
  std::string initrd;
  std::string cmdline_extra;
  std::uint32_t cpus_online = 1;
  std::uint32_t cpus_max = 1;
  std::string cpu_template = "host";
  std::uint64_t memory_mib = 512;
  std::uint64_t memory_max_mib = 512;
  std::vector<Extent> root;
  std::optional<std::string> upper;  // path of the ext4 image; nullopt: tmpfs, which the guest's config sizes
  std::vector<Disk> disks;
  Net net;
  std::vector<HostSocket> host_sockets;  // each port once
  std::string guest;                     // GuestConfig as JSON, checked
  std::optional<std::string> main;  // ExecRequest as JSON, checked; its "log" stands in main_logged instead
  bool main_logged = false;         // its output goes to the sandbox's log
  std::optional<int> leash_fd;
  std::optional<int> ready_fd;
  Timeouts timeouts;
  bool ephemeral = false;  // the end of a sandbox that was ready removes `dir` and all in it
  Log log;
  Confinement confinement = Confinement::kAuto;

  // kInvalid with the path of the member that is wrong.
  [[nodiscard]] static Result<VmSpec> parse(std::string_view json);
};

}  // namespace msb::proto
