// SPDX-License-Identifier: Apache-2.0
// Unpacking in a process of its own, which holds five descriptors and nothing else: no network, no path, no
// secret. A layer that breaks the parser breaks that.
//
// Theory of operation. The parent starts `msb-image unpack-layer` with the layer on descriptor 0, the two
// empty files on 3, 4 and 5 and a pipe for the answer on 6, copies the stream in, and reads one JSON document
// back: a summary or an error. The child confines itself before it reads the first byte (no paths by
// Landlock, no capabilities, an allow-list of calls by seccomp).
#pragma once

#include <string>
#include <vector>

#include "base/confine/seccomp.h"
#include "base/result.h"
#include "oci/byte_stream.h"
#include "oci/limits.h"
#include "oci/unpack.h"
#include "oci/unpack_disk.h"

namespace msb::oci {

// What an unpacker may call once it is confined. Whoever starts it under a filter must allow this, and what
// it calls until then.
[[nodiscard]] std::vector<confine::AllowedCall> unpacker_calls();

// As unpack_layer(). `program` is msb-image.
[[nodiscard]] Result<LayerSummary> unpack_layer_confined(const std::string& program, ByteStream& input,
                                                         const LayerFiles& files, const Limits& limits);
// The child's side; descriptors as above.
[[nodiscard]] Status run_unpack_process(const Limits& limits);

// As unpack_disk(), likewise: `msb-image unpack-disk` gets the disk image on 0, the empty file on 3, the pipe
// on 6.
[[nodiscard]] Result<DiskSummary> unpack_disk_confined(const std::string& program, int fd, int out_fd,
                                                       const Limits& limits);
[[nodiscard]] Status run_unpack_disk_process(const Limits& limits);

}  // namespace msb::oci
