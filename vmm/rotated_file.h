// SPDX-License-Identifier: Apache-2.0
// RotatedFile: lines in a file that never grows beyond a limit.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"
#include "base/unique_fd.h"

namespace msb::vmm {

class RotatedFile {
 public:
  // Opens (appending) or makes `name` in `dir_fd`, borrowed. At `max_bytes` it becomes name.1, name.1 becomes
  // name.2, ...; at most `files` are kept.
  [[nodiscard]] static Result<RotatedFile> open(int dir_fd, std::string name, std::uint64_t max_bytes,
                                                std::uint64_t files);
  // `lines`: whole lines with their ends, which stay together. Never fails: a full disk loses lines, not the
  // sandbox.
  void append(std::string_view lines);

 private:
  RotatedFile(int dir_fd, std::string name, std::uint64_t max_bytes, std::uint64_t files, UniqueFd file,
              std::uint64_t size)
      : dir_fd_(dir_fd),
        name_(std::move(name)),
        max_bytes_(max_bytes),
        files_(files),
        file_(std::move(file)),
        size_(size) {}
  void rotate();

  int dir_fd_;
  std::string name_;
  std::uint64_t max_bytes_;
  std::uint64_t files_;
  UniqueFd file_;
  std::uint64_t size_;
};

}  // namespace msb::vmm
