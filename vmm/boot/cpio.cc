// SPDX-License-Identifier: Apache-2.0
#include "vmm/boot/cpio.h"

#include <cstdio>

#include "base/check.h"

namespace msb::vmm {
namespace {
constexpr std::uint32_t kTypeDirectory = 0040000;
constexpr std::uint32_t kTypeFile = 0100000;
constexpr std::size_t kMaxName = 255;
}  // namespace

void CpioWriter::add(std::string_view name, std::uint32_t mode, ByteView content) {
  MSB_CHECK(name.size() <= kMaxName && content.size() <= 0x7fffffff);
  char header[111];
  // magic ino mode uid gid nlink mtime filesize devmajor devminor rdevmajor rdevminor namesize check
  const int length =
      std::snprintf(header, sizeof header, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x",
                    next_inode_++, mode, 0U, 0U, 1U, 0U, static_cast<unsigned>(content.size()), 0U, 0U, 0U,
                    0U, static_cast<unsigned>(name.size() + 1), 0U);
  MSB_CHECK(length == 110);
  out_.put_text(std::string_view(header, 110));
  out_.put_text(name);
  out_.put_zeros(1);
  out_.align(4);
  out_.put_bytes(content);
  out_.align(4);
}

void CpioWriter::add_directory(std::string_view name, std::uint32_t permissions) {
  add(name, kTypeDirectory | permissions, {});
}

void CpioWriter::add_file(std::string_view name, std::uint32_t permissions, ByteView content) {
  add(name, kTypeFile | permissions, content);
}

Bytes CpioWriter::finish() && {
  add("TRAILER!!!", 0, {});
  return std::move(out_).take();
}

}  // namespace msb::vmm
