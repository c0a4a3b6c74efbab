// SPDX-License-Identifier: Apache-2.0
// Images as one archive that is an OCI layout and a docker-archive at once: the same blobs, named by
// index.json for the one and by manifest.json for the other.
//
// Layers are written uncompressed, bit for bit the tar they came from, so layer ids and the image id (the
// config's digest) survive. The manifest is the original one if the layers came uncompressed; else a new one
// over the same config, which is the same for the same image every time (docs/decisions/0071).
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "oci/catalog.h"
#include "oci/limits.h"

namespace msb::oci {

struct SavedImage {
  const ImageRecord* image;
  std::vector<std::string> references;  // canonical; may be empty
};
// Writes to `fd` forward. The caller holds the store's shared lock.
[[nodiscard]] Status save_images(const Store& store, const std::vector<SavedImage>& images, int fd,
                                 const Limits& limits);

// Reads the layer's tar again and compares it with its id; kCorrupt if they differ.
[[nodiscard]] Status verify_layer(const Store& store, const std::string& diff_id, const Limits& limits);

}  // namespace msb::oci
