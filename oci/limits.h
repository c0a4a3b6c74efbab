// SPDX-License-Identifier: Apache-2.0
// How much an image may ask of the host. Everything outside is counted against these; they are generous (a 20
// GiB image with a million files fits many times) and can be raised on the command line.
#pragma once

#include <cstddef>
#include <cstdint>

namespace msb::oci {

struct Limits {
  std::uint64_t max_layer_bytes = std::uint64_t{256} << 30;  // tar stream of one layer, uncompressed
  std::uint64_t max_file_bytes = std::uint64_t{8}
                                 << 40;  // apparent size of one file (sparse files may be huge)
  std::uint64_t max_image_bytes = std::uint64_t{2} << 40;  // block space of all layers of one image
  std::uint32_t max_entries = 8'000'000;  // files, directories, ... of one layer and of one image
  std::uint32_t max_layers = 512;
  std::uint32_t max_text_bytes = 1U << 30;   // names and link targets of one tree
  std::uint32_t max_xattr_bytes = 1U << 28;  // distinct extended-attribute sets of one tree
  std::uint32_t max_chunks = 1U << 24;       // chunks of all sparse files of one tree
  std::uint64_t max_archive_members = 1'000'000;
};

// Fixed by formats and kernels, not configurable.
inline constexpr std::size_t kMaxNameBytes = 255;          // one path component (NAME_MAX)
inline constexpr std::size_t kMaxPathBytes = 4096;         // whole name of an entry (PATH_MAX)
inline constexpr std::size_t kMaxSymlinkBytes = 4095;      // target of a symbolic link
inline constexpr std::size_t kMaxPathDepth = 2048;         // components of a path that fits kMaxPathBytes
inline constexpr std::size_t kMaxTarExtension = 1U << 20;  // one PAX header or GNU long name
inline constexpr int kMaxSymlinksFollowed = 40;            // as the kernel (MAXSYMLINKS)
inline constexpr std::size_t kMaxManifestBytes = 4U
                                                 << 20;  // OCI distribution: registries accept at least this
inline constexpr std::size_t kMaxConfigBytes = 8U << 20;

}  // namespace msb::oci
