// SPDX-License-Identifier: Apache-2.0
// Reads the headers of an uncompressed ELF kernel (vmlinux): where its segments go and where PVH boot enters.
// A pure parser of an outsider's bytes: no I/O here; elf_fuzz.cc feeds it.
// Facts: ELF-64 (System V ABI, chapter 4 and 5), Xen public/elfnote.h, Linux Documentation/arch/x86/boot.rst.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"

namespace msb::vmm {

struct ElfSegment {
  std::uint64_t file_offset = 0;
  std::uint64_t file_size = 0;    // bytes in the file
  std::uint64_t address = 0;      // guest-physical
  std::uint64_t memory_size = 0;  // bytes in memory, at least file_size; the rest is zero
};

struct ElfKernel {
  std::vector<ElfSegment> segments;
  std::uint32_t pvh_entry = 0;  // 32-bit protected-mode entry, guest-physical
  std::uint64_t end = 0;        // first guest-physical address behind all segments
};

// Reads `length` bytes at `offset` of the file; an Error if they are not all there.
using ReadAt = std::function<Result<Bytes>(std::uint64_t offset, std::size_t length)>;

// Checks the file header, the program headers and the notes. `file_size` bounds every segment. Errors are
// kInvalid and name what is wrong ("is not an ELF file", "is a compressed kernel image", ...).
[[nodiscard]] Result<ElfKernel> parse_elf_kernel(const ReadAt& read, std::uint64_t file_size);

}  // namespace msb::vmm
