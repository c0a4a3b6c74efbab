// SPDX-License-Identifier: Apache-2.0
#include "oci/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/file.h"

namespace msb::oci {

Result<MappedFile> MappedFile::open(int dir_fd, const std::string& path) {
  MSB_ASSIGN(const UniqueFd fd, open_at(dir_fd, path, O_RDONLY));
  return map(fd.get());
}

Result<MappedFile> MappedFile::map(int fd) {
  struct stat st {};
  if (::fstat(fd, &st) != 0) return sys_error("stat a file to map");
  if (st.st_size <= 0) return MappedFile(ByteView{});
  const auto size = static_cast<std::size_t>(st.st_size);
  void* at = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd, 0);
  if (at == MAP_FAILED) return sys_error("map a file");
  return MappedFile(ByteView(static_cast<const std::uint8_t*>(at), size));
}

MappedFile::~MappedFile() {
  if (!data_.empty()) ::munmap(const_cast<std::uint8_t*>(data_.data()), data_.size());
}

}  // namespace msb::oci
