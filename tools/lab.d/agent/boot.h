// SPDX-License-Identifier: Apache-2.0
// From the kernel's hand-over to a machine that is ready for commands.
#pragma once

#include <string>

namespace msb::lab {

// Loads modules, mounts the host's tree under an overlay and makes it the root, sets up devices, cgroups and
// loopback. Runs as PID 1 from the initramfs. Any failure is printed and ends the process, with it the lab.
void boot();

// Mounts the host's directory for results at `path`, once.
// Returns false with errno set if that fails.
bool mount_out(const std::string& path);

// Makes a directory of the host that lies under one of the lab's own file systems (/tmp/x, say) visible
// there.
void reveal(const std::string& path);

// Copies a file, and the symbolic links that lead to it, from the host's tree into the overlay's memory:
// opening it needs no round trip to the host any more. A path that is not there is ignored.
void hold_in_memory(const std::string& path);

// Makes a directory and those above it that are missing.
void make_directories(const std::string& path);

// Writes to a file of /proc, /sys or a cgroup. Returns false with errno set if that fails.
bool write_file(const std::string& path, const std::string& text);

// Prints "lab: what: errno's text" to the console and ends the lab.
[[noreturn]] void die(const std::string& what);

}  // namespace msb::lab
