// SPDX-License-Identifier: Apache-2.0
// TarWriter: the plain ustar archives that `save` makes: files with short names, owned by root, without
// times, so that the same images give the same bytes.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"
#include "oci/byte_source.h"

namespace msb::oci {

class TarWriter {
 public:
  // `fd` (borrowed) takes the stream forward: a file, pipe or socket.
  explicit TarWriter(int fd) : fd_(fd) {}
  // `name` has at most 100 bytes.
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
