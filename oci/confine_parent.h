// SPDX-License-Identifier: Apache-2.0
// What msb-image keeps of its rights while it handles what others sent: the image store (`home`/images, which
// exists), and for pulls the network and the files that name resolution, TLS and the unpacker need.
#pragma once

#include <string>
#include <vector>

namespace msb::oci {

enum class Network : std::uint8_t { kNone, kTcp };
// A directory that may be read besides the store.
struct ReadableDirectory {
  int fd = -1;  // none
  bool as_root =
      false;  // by root whoever its files belong to, with their attributes of root's own (trusted.*)
};
// Landlock, no_new_privs and no capabilities (but for ReadableDirectory) for the whole process;
// single-threaded until then. Open descriptors stay usable. What the kernel lacks is only warned of.
void confine_parent(const std::string& home, ReadableDirectory directory, Network network,
                    const std::vector<std::string>& readable_files = {});

}  // namespace msb::oci
