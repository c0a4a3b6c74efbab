// SPDX-License-Identifier: Apache-2.0
// A whole file mapped read-only. For files of our own store, which are complete and never shortened once
// published.
#pragma once

#include <string>

#include "base/bytes.h"
#include "base/result.h"

namespace msb::oci {

class MappedFile {
 public:
  [[nodiscard]] static Result<MappedFile> open(int dir_fd, const std::string& path);
  [[nodiscard]] static Result<MappedFile> map(int fd);
  MappedFile(MappedFile&& other) noexcept : data_(std::exchange(other.data_, ByteView{})) {}
  MappedFile& operator=(MappedFile&&) = delete;
  ~MappedFile();
  [[nodiscard]] ByteView view() const { return data_; }

 private:
  explicit MappedFile(ByteView data) : data_(data) {}
  ByteView data_;
};

}  // namespace msb::oci
