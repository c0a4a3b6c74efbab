// SPDX-License-Identifier: Apache-2.0
// A kernel file is an outsider's bytes. What is accepted must keep the promises of elf.h.
#include "base/check.h"
#include "vmm/boot/elf.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const msb::ByteView file(data, size);
  const auto kernel = msb::vmm::parse_elf_kernel(
      [&](std::uint64_t offset, std::size_t length) -> msb::Result<msb::Bytes> {
        if (offset > file.size() || length > file.size() - offset) {
          return msb::make_error(msb::Errc::kCorrupt, "short");
        }
        const msb::ByteView part = file.subspan(static_cast<std::size_t>(offset), length);
        return msb::Bytes(part.begin(), part.end());
      },
      size);
  if (!kernel) return 0;
  for (const auto& segment : kernel->segments) {
    MSB_CHECK(segment.file_offset <= size && segment.file_size <= size - segment.file_offset);
    MSB_CHECK(segment.memory_size >= segment.file_size &&
              segment.address + segment.memory_size <= kernel->end);
  }
  return 0;
}
