// SPDX-License-Identifier: Apache-2.0
// The guest's file systems: from the initial ramdisk to the image as "/", and back for a clean end.
//
// Layout while the agent lives. The ramdisk ("old root") holds /lower (EROFS, read-only), /upper (ext4 or
// tmpfs) and the overlay of both, which is moved onto "/" and entered with chroot. The move matters: a plain
// chroot would refuse user namespaces to every program of the guest. The old root stays reachable through a
// descriptor, which is how the overlay and the upper file system are unmounted at the end.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "proto/guest_config.h"

namespace msb::agent {

// Mounts /proc and /dev in the ramdisk: what is needed to find the configuration and the disks.
[[nodiscard]] Status mount_early();

// Mounts root, upper and overlay and makes the result "/". `warnings` gets what failed without preventing
// work. Returns the old root.
[[nodiscard]] Result<UniqueFd> enter_root(const proto::GuestConfig& config,
                                          std::vector<std::string>& warnings);

// Makes disk contents final: everything synced, overlay and upper unmounted, or, where something still holds
// them, frozen in a consistent state. No process but this may run in the guest.
void leave_root(int old_root);

// Options of a tmpfs mount split into mount flags and the rest for the file system ("ro,noexec,mode=1777").
struct MountOptions {
  unsigned long flags = 0;
  std::string data;
};
[[nodiscard]] MountOptions parse_mount_options(std::string_view text);

}  // namespace msb::agent
