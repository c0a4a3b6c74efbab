// SPDX-License-Identifier: Apache-2.0
// Images from archives: docker-archive (`docker save`) and OCI layouts, as a tar stream or a directory.
//
// Theory of operation. One pass, in whatever order the members come, so that a pipe is as good as a file:
// JSON documents are kept in memory (bounded), everything that is a layer is unpacked into the store at once
// under the diff id it has, the rest is passed over. Then the images are put together from what was found,
// their digests checked, and published. Layers of an archive that turns out broken stay behind for `prune`.
#pragma once

#include <string>
#include <vector>

#include "base/image_reference.h"
#include "base/result.h"
#include "oci/limits.h"
#include "oci/manifest.h"
#include "oci/store.h"

namespace msb::oci {

struct LoadOptions {
  std::vector<ImageReference> tags;  // further names for the first image of the archive
  Platform platform = host_platform();
  Limits limits;
  std::string unpacker;  // as in StageOptions
};
struct LoadedImage {
  std::vector<std::string> references;  // canonical
  std::string manifest_digest;
};

// From a tar stream (gzip, zstd or plain) read from `fd` to its end.
[[nodiscard]] Result<std::vector<LoadedImage>> load_archive(const Store& store, int fd,
                                                            const LoadOptions& options);
// From a directory holding an OCI layout or an unpacked docker-archive.
[[nodiscard]] Result<std::vector<LoadedImage>> load_directory(const Store& store, int dir_fd,
                                                              const LoadOptions& options);

}  // namespace msb::oci
