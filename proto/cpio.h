// SPDX-License-Identifier: Apache-2.0
// Writer of the initial ramdisk's format: cpio "newc" without compression (kernel:
// driver-api/early-userspace, "initramfs buffer format"). Archives may follow each other in one buffer; each
// ends with its own trailer, padded to 512 bytes here, which keeps every archive aligned.
#pragma once

#include <cstdint>
#include <string_view>

#include "base/bytes.h"

namespace msb::proto {

class CpioWriter {
 public:
  // Names are relative ("dev/console") and shorter than 4096 bytes; `mode` holds permission bits only. Owner
  // is root, times are 0, so the same input gives the same bytes. Directories come before what they hold.
  void add_directory(std::string_view name, std::uint32_t mode = 0755);
  void add_file(std::string_view name, std::uint32_t mode, ByteView data);
  void add_char_device(std::string_view name, std::uint32_t mode, std::uint32_t major, std::uint32_t minor);
  // Writes the trailer and gives the archive.
  [[nodiscard]] Bytes finish() &&;

 private:
  struct Header {
    std::uint32_t mode = 0;
    std::uint32_t nlink = 1;
    std::uint32_t size = 0;
    std::uint32_t major = 0;
    std::uint32_t minor = 0;
  };
  void add(std::string_view name, const Header& header, ByteView data);

  ByteWriter out_;
  std::uint32_t next_inode_ = 1;
};

}  // namespace msb::proto
