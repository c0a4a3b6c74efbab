// SPDX-License-Identifier: Apache-2.0
#include "proto/cpio.h"

#include <sys/stat.h>

#include <cstdio>

#include "base/check.h"

namespace msb::proto {
namespace {
constexpr std::size_t kMaxName = 4096;
constexpr std::size_t kArchiveAlignment = 512;
}  // namespace

void CpioWriter::add(std::string_view name, const Header& header, ByteView data) {
  MSB_CHECK(!name.empty() && name.size() < kMaxName && name.front() != '/');
  // Magic, inode, mode, uid, gid, nlink, mtime, size, device major and minor, rdev major and minor, name size
  // with its NUL, checksum (unused): 8 hex digits each after the magic.
  char text[6 + 13 * 8 + 1];
  std::snprintf(text, sizeof text, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X",
                next_inode_++, header.mode, 0U, 0U, header.nlink, 0U, header.size, 0U, 0U, header.major,
                header.minor, static_cast<unsigned>(name.size() + 1), 0U);
  out_.put_text(text);
  out_.put_text(name);
  out_.put_u8(0);
  out_.align(4);
  out_.put_bytes(data);
  out_.align(4);
}

void CpioWriter::add_directory(std::string_view name, std::uint32_t mode) {
  add(name, {.mode = S_IFDIR | mode, .nlink = 2}, {});
}

void CpioWriter::add_file(std::string_view name, std::uint32_t mode, ByteView data) {
  MSB_CHECK(data.size() <= UINT32_MAX);
  add(name, {.mode = S_IFREG | mode, .size = static_cast<std::uint32_t>(data.size())}, data);
}

void CpioWriter::add_char_device(std::string_view name, std::uint32_t mode, std::uint32_t major,
                                 std::uint32_t minor) {
  add(name, {.mode = S_IFCHR | mode, .major = major, .minor = minor}, {});
}

Bytes CpioWriter::finish() && {
  next_inode_ = 0;
  add("TRAILER!!!", {}, {});
  out_.align(kArchiveAlignment);
  return std::move(out_).take();
}

}  // namespace msb::proto
