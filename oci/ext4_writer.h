// SPDX-License-Identifier: Apache-2.0
// Makes the empty ext4 that takes a sandbox's writes: a journal, and directories /upper and /work for
// overlayfs.
//
// Theory of operation. Only what is not zero is written; the rest of the file is a hole. Groups nobody has
// used yet are marked so (their bitmaps and inode tables need not exist, metadata_csum allows it) and group
// descriptors are spread over the disk (meta_bg), so the work grows with one descriptor block in 8 GiB:
// milliseconds at any size, and the kernel and resize2fs can grow it later. All checksums (metadata_csum) are
// filled in.
#pragma once

#include <array>
#include <cstdint>

#include "base/result.h"

namespace msb::oci::ext4 {

inline constexpr std::uint64_t kMinBytes = std::uint64_t{16} << 20;
inline constexpr std::uint64_t kMaxBytes = std::uint64_t{16} << 40;

struct Parameters {
  std::uint64_t bytes =
      0;  // length of the file; a last group too small to be of use is left out of the filesystem
  std::int64_t time_s = 0;  // of making, and of the directories
  std::array<std::uint8_t, 16> uuid{};
  std::array<std::uint8_t, 16> hash_seed{};
};

// `fd` is an empty file open for writing. It gets its length first and is not synced.
// kInvalid for a length below kMinBytes, above kMaxBytes, or not a multiple of 4096.
[[nodiscard]] Status make_filesystem(int fd, const Parameters& parameters);

}  // namespace msb::oci::ext4
