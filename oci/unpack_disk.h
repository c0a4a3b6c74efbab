// SPDX-License-Identifier: Apache-2.0
// A disk image made one of the store's: raw, sparse, of whole blocks, with a file system that guests mount.
#pragma once

#include <cstdint>
#include <string>

#include "base/result.h"
#include "oci/limits.h"

namespace msb::oci {

struct DiskSummary {
  std::string id_hex;       // of the content, whatever format it came in
  std::uint64_t bytes = 0;  // a multiple of 4096
  std::string file_system;  // as mount(2) names it: "ext4", "squashfs"
};

// Reads the disk image `fd` (open_disk()) into the empty file `out_fd`. Blocks of zeros are not written. The
// id is the SHA-256 of each other block preceded by its number (64 bits, little-endian), and of the number of
// blocks at the end. kUnsupported: no file system that guests know, or one that was not unmounted; kLimit:
// more than max_layer_bytes of data.
[[nodiscard]] Result<DiskSummary> unpack_disk(int fd, int out_fd, const Limits& limits);
// The id that unpack_disk() would give to the disk in `fd`, a raw file.
[[nodiscard]] Result<std::string> disk_id(int fd, const Limits& limits);

}  // namespace msb::oci
