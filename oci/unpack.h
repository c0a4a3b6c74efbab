// SPDX-License-Identifier: Apache-2.0
// One layer from compressed stream to EROFS blob, in one pass: decompress and hash on one thread, parse and
// write on another. Works on descriptors alone, so it can run where nothing may be opened.
//
// The blob is an EROFS image of its own: block 0 the superblock, then the files' data, then the metadata with
// the layer's marks (layer_tree.h). It mounts, and merge.h reads it to put images together.
#pragma once

#include <cstdint>
#include <string>

#include "base/result.h"
#include "oci/byte_stream.h"
#include "oci/limits.h"

namespace msb::oci {

struct LayerSummary {
  std::string diff_id_hex;       // sha256 of the uncompressed tar stream
  std::uint64_t tar_bytes = 0;   // its length
  std::uint64_t blob_bytes = 0;  // length of the EROFS blob, a multiple of 4096
  std::uint64_t entries = 0;     // in the tar
  std::uint64_t dropped_xattrs = 0;
};

// Empty files (borrowed), written but not synced.
struct LayerFiles {
  int blob = -1;
  int split = -1;    // -1: no record of the tar stream is kept
  int scratch = -1;  // for the tree of a large layer (scratch.h); -1: it stays in memory
};

// Errors: kProtocol for what is wrong with the layer, kLimit, kNoSpace and others of writing.
[[nodiscard]] Result<LayerSummary> unpack_layer(ByteStream& input, const LayerFiles& files,
                                                const Limits& limits);

}  // namespace msb::oci
