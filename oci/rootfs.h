// SPDX-License-Identifier: Apache-2.0
// A root file system that is no image made one: a directory or a plain tar (of debootstrap, ...) as an
// image of one layer, a disk image as it is.
#pragma once

#include "base/image_reference.h"
#include "base/result.h"
#include "oci/byte_stream.h"
#include "oci/load.h"
#include "oci/store.h"

namespace msb::oci {

// From a tar stream (gzip, zstd or plain; DirectoryTar of a directory) read to its end, under the name
// `reference`. The image's command is /bin/sh with the usual PATH. The same tar gives the same image.
[[nodiscard]] Result<LoadedImage> load_rootfs(const Store& store, ByteStream& input,
                                              const ImageReference& reference, const LoadOptions& options);
// The same from the disk image `fd` (unpack_disk.h), a file. Guests mount its file system read-only.
[[nodiscard]] Result<LoadedImage> load_disk(const Store& store, int fd, const ImageReference& reference,
                                            const LoadOptions& options);

}  // namespace msb::oci
