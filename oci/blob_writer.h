// SPDX-License-Identifier: Apache-2.0
// BlobWriter: the data blocks of a layer's blob, written forward. Block 0 is left for the superblock.
#pragma once

#include <cstdint>

#include "base/bytes.h"
#include "base/result.h"

namespace msb::oci {

class BlobWriter {
 public:
  // `fd` (borrowed) is an empty file. `max_blocks` bounds what may be written, holes included.
  BlobWriter(int fd, std::uint64_t max_blocks);
  // The block at which the next byte goes; call when aligned.
  [[nodiscard]] Result<std::uint32_t> start_block();
  // Where the next byte goes, in bytes from the blob's start.
  [[nodiscard]] std::uint64_t position() const { return position_; }
  [[nodiscard]] Status append(ByteView bytes);
  // Zeros; long runs become holes in the file.
  [[nodiscard]] Status append_zeros(std::uint64_t count);
  [[nodiscard]] Status align();
  [[nodiscard]] Status flush();

 private:
  [[nodiscard]] Status check_room(std::uint64_t more) const;
  int fd_;
  std::uint64_t max_bytes_;
  std::uint64_t position_;
  Bytes buffer_;  // what precedes position_ and is not yet in the file
};

}  // namespace msb::oci
