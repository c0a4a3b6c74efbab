// SPDX-License-Identifier: Apache-2.0
#include "vmm/rotated_file.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/file.h"

namespace msb::vmm {
namespace {
constexpr int kFlags = O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW;
}  // namespace

Result<RotatedFile> RotatedFile::open(int dir_fd, std::string name, std::uint64_t max_bytes,
                                      std::uint64_t files) {
  MSB_ASSIGN(UniqueFd file, open_at(dir_fd, name, kFlags));
  struct stat info {};
  if (::fstat(file.get(), &info) != 0) return sys_error("stat " + name);
  return RotatedFile(dir_fd, std::move(name), max_bytes, files, std::move(file),
                     static_cast<std::uint64_t>(info.st_size));
}

void RotatedFile::rotate() {
  for (std::uint64_t n = files_ > 1 ? files_ - 1 : 0; n > 0; --n) {
    const std::string from = n == 1 ? name_ : name_ + "." + std::to_string(n - 1);
    static_cast<void>(::renameat(dir_fd_, from.c_str(), dir_fd_, (name_ + "." + std::to_string(n)).c_str()));
  }
  auto file = open_at(dir_fd_, name_, kFlags | O_TRUNC);
  if (!file) return;
  file_ = std::move(file).value();
  size_ = 0;
}

void RotatedFile::append(std::string_view lines) {
  if (size_ != 0 && size_ + lines.size() > max_bytes_) rotate();
  if (write_all(file_.get(), lines)) size_ += lines.size();
}

}  // namespace msb::vmm
