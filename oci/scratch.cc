// SPDX-License-Identifier: Apache-2.0
#include "oci/scratch.h"

#include <sys/mman.h>

#include <algorithm>
#include <array>

#include "base/file.h"

namespace msb::oci {

ScratchBlock::~ScratchBlock() {
  if (data_ != nullptr) ::munmap(data_, bytes_);
}

Result<ScratchBlock> Scratch::allocate(std::size_t bytes) {
  constexpr int kAccess = PROT_READ | PROT_WRITE;
  const bool plain = fd_ < 0 || bytes <= kPlainBytes - std::min(plain_, kPlainBytes);
  void* data = nullptr;
  if (plain) {
    data = ::mmap(nullptr, bytes, kAccess, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    plain_ += bytes;
  } else {
    static constexpr std::array<std::uint8_t, 64 << 10> kZeros{};
    for (std::size_t done = 0; done < bytes; done += kZeros.size()) {
      const ByteView zeros = ByteView(kZeros).first(std::min(kZeros.size(), bytes - done));
      MSB_TRY(pwrite_exact(fd_, zeros, in_file_ + done));
    }
    data = ::mmap(nullptr, bytes, kAccess, MAP_SHARED, fd_, static_cast<off_t>(in_file_));
    in_file_ += bytes;
  }
  if (data == MAP_FAILED) return sys_error("map memory for a file tree");
  return ScratchBlock(data, bytes);
}

}  // namespace msb::oci
