// SPDX-License-Identifier: Apache-2.0
// What msb-image keeps of its rights while it handles what others sent: the image store (`home`/images, which
// exists), for what starts unpackers their program, and for pulls the network and the files that name
// resolution, TLS and the unpacker need.
#pragma once

#include <string>
#include <vector>

namespace msb::oci {

enum class Job : std::uint8_t { kLoad, kSave, kPull };
// What may be reached besides the store. Descriptors are borrowed; none is -1.
struct Besides {
  int readable_fd = -1;                          // a directory
  bool as_root = false;                          // by root, that directory whoever its files belong to
  int writable_fd = -1;                          // a directory in which files are made and replaced
  std::vector<std::string> readable_files = {};  // paths
};
// Landlock, no_new_privs and no capabilities (but what Besides needs of root's) for the whole process, and,
// unless it pulls (registry/pull_calls.h), its allow-list of system calls; single-threaded until then. Open
// descriptors stay usable. What the kernel lacks is only warned of.
void confine_parent(const std::string& home, Job job, const Besides& besides);

}  // namespace msb::oci
