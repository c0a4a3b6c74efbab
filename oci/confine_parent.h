// SPDX-License-Identifier: Apache-2.0
// What msb-image keeps of its rights while it handles what others sent: the image store (`home`/images, which
// exists), and for pulls the network and the files that name resolution, TLS and the unpacker need.
#pragma once

#include <string>
#include <vector>

namespace msb::oci {

enum class Network : std::uint8_t { kNone, kTcp };
// Landlock, no_new_privs and no capabilities for the whole process; single-threaded until then. `read_fd`: a
// directory that may be read as well (an OCI layout), or -1. Open descriptors stay usable. What the kernel
// lacks is only warned of.
void confine_parent(const std::string& home, int read_fd, Network network,
                    const std::vector<std::string>& readable_files = {});

}  // namespace msb::oci
