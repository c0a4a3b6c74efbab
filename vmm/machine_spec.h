// SPDX-License-Identifier: Apache-2.0
// MachineSpec: what the supervisor role hands to the machine role: plain values and descriptors, no paths.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/unique_fd.h"
#include "vmm/arch/x86_64/cpuid.h"

namespace msb::vmm {

// A piece of a file that is a piece of a disk.
struct DiskExtent {
  UniqueFd file;
  std::uint64_t offset = 0;
  std::uint64_t length = 0;
};

struct DiskSpec {
  std::string id;  // what the guest reads as the disk's serial, at most 20 bytes
  bool read_only = true;
  std::vector<DiskExtent> extents;  // a writable disk has exactly one, from 0 to the end of its file
};

struct NetDeviceSpec {
  UniqueFd frames;  // stream socket to the frame proxy
  std::array<std::uint8_t, 6> mac{};
  std::uint16_t mtu = 1500;
  bool vnet_hdr = false;
};

struct MachineSpec {
  std::uint32_t cpus_online = 1;
  std::uint32_t cpus_max = 1;
  CpuTemplate cpu_template = CpuTemplate::kHost;
  std::uint64_t memory_bytes = 0;
  std::string cmdline_extra;
  std::string guest_config;  // JSON for the agent: /msb/boot.json of the second archive
  UniqueFd kernel;
  UniqueFd initrd;
  UniqueFd console;  // may be none
  std::uint64_t console_limit = 0;
  std::vector<DiskSpec> disks;  // vda, vdb, ...
  UniqueFd vsock_listener;
  std::optional<NetDeviceSpec> net;
};

}  // namespace msb::vmm
