// SPDX-License-Identifier: Apache-2.0
// A small newc archive in memory: the second part of the initial ramdisk, with this boot's configuration.
// Facts: Linux Documentation/driver-api/early-userspace/buffer-format.rst.
#pragma once

#include <cstdint>
#include <string_view>

#include "base/bytes.h"

namespace msb::vmm {

class CpioWriter {
 public:
  // Names are relative, parents first; at most 255 bytes. Everything belongs to root.
  void add_directory(std::string_view name, std::uint32_t permissions);
  void add_file(std::string_view name, std::uint32_t permissions, ByteView content);
  // The archive with its end mark, padded to a multiple of 4 so that another may follow.
  [[nodiscard]] Bytes finish() &&;

 private:
  void add(std::string_view name, std::uint32_t mode, ByteView content);
  ByteWriter out_;
  std::uint32_t next_inode_ = 0x6d0000;  // apart from the agent archive's, or hard links would be seen
};

}  // namespace msb::vmm
