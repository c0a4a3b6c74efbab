// SPDX-License-Identifier: Apache-2.0
// Tar streams written: any entry (what a directory becomes), and TarWriter for the plain archives that `save`
// makes.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"
#include "oci/byte_source.h"
#include "oci/tar_reader.h"

namespace msb::oci {

// All that stands before an entry's data: a ustar header, a PAX header before it for what that cannot hold,
// and the map of a sparse file (GNU's format 1.0; entry.ranges ascending, disjoint, within entry.size).
// Readers get back the very entry. kUnsupported for an attribute whose name PAX cannot write.
[[nodiscard]] Result<std::string> tar_headers(const TarEntry& entry);
// Zero bytes between data of this length and the next header.
[[nodiscard]] constexpr std::size_t tar_padding(std::uint64_t bytes) { return (512 - bytes % 512) % 512; }
// Zero bytes that end a stream.
inline constexpr std::size_t kTarEnd = 1024;

// Files owned by root, without times, so that the same images give the same bytes.
class TarWriter {
 public:
  // `fd` (borrowed) takes the stream forward: a file, pipe or socket.
  explicit TarWriter(int fd) : fd_(fd) {}
  [[nodiscard]] Status add(const std::string& name, std::string_view content);
  // kCorrupt if `content` does not have `size` bytes.
  [[nodiscard]] Status add(const std::string& name, std::uint64_t size, ByteSource& content);
  [[nodiscard]] Status finish();

 private:
  [[nodiscard]] Status header(const std::string& name, std::uint64_t size);
  [[nodiscard]] Status pad(std::uint64_t size);
  int fd_;
};

}  // namespace msb::oci
