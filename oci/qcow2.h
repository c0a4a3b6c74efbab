// SPDX-License-Identifier: Apache-2.0
// The read path of qcow2, versions 2 and 3 (QEMU, docs/interop/qcow2.txt): L1 and L2 tables, zero clusters,
// clusters compressed with deflate or zstd. The state as it is now; snapshots and refcounts are passed over.
#pragma once

#include "oci/disk_source.h"

namespace msb::oci {

[[nodiscard]] bool is_qcow2(ByteView first_bytes);
// As open_disk(), for a file that is_qcow2().
[[nodiscard]] Result<std::unique_ptr<DiskSource>> open_qcow2(int fd, const Limits& limits);

}  // namespace msb::oci
