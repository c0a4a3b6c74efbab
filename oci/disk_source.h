// SPDX-License-Identifier: Apache-2.0
// Disk images as files of the host hold them: raw, or qcow2. Hostile: every position is checked, nothing but
// the one file is ever opened or followed.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "base/bytes.h"
#include "base/result.h"
#include "oci/limits.h"

namespace msb::oci {

class DiskSource {
 public:
  virtual ~DiskSource() = default;
  // Of the disk, in bytes.
  [[nodiscard]] virtual std::uint64_t size() const = 0;
  // Gives out what the file stores of the disk, forward and without overlap; what lies between is zeros. A
  // piece is valid during its call and never reaches past size(). Stops at the first error of `sink`.
  // kProtocol for a damaged file.
  using Sink = std::function<Status(std::uint64_t offset, ByteView piece)>;
  [[nodiscard]] virtual Status read(const Sink& sink) = 0;
};

// `fd` (borrowed) is a file that can be read at any place: a qcow2 image if it begins as one, else the disk
// itself. kUnsupported names what a qcow2 image needs that this does not do: backing files, encryption,
// external data, extended L2 entries. kLimit: a disk over max_image_bytes.
[[nodiscard]] Result<std::unique_ptr<DiskSource>> open_disk(int fd, const Limits& limits);
// The file is the disk, however it begins.
[[nodiscard]] Result<std::unique_ptr<DiskSource>> open_raw_disk(int fd, const Limits& limits);

}  // namespace msb::oci
