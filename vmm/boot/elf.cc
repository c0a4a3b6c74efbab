// SPDX-License-Identifier: Apache-2.0
#include "vmm/boot/elf.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "base/wire.h"

namespace msb::vmm {
namespace {

struct FileHeader {
  std::array<std::uint8_t, 16> ident;
  Le16 type, machine;
  Le32 version;
  Le64 entry, program_headers, section_headers;
  Le32 flags;
  Le16 header_size, program_header_size, program_header_count, section_header_size, section_header_count,
      section_names;
};
static_assert(sizeof(FileHeader) == 64 && WireStruct<FileHeader>);

struct ProgramHeader {
  Le32 type, flags;
  Le64 offset, virtual_address, physical_address, file_size, memory_size, alignment;
};
static_assert(sizeof(ProgramHeader) == 56 && WireStruct<ProgramHeader>);

struct NoteHeader {
  Le32 name_size, description_size, type;
};
static_assert(sizeof(NoteHeader) == 12 && WireStruct<NoteHeader>);

constexpr std::uint8_t kClass64 = 2;
constexpr std::uint8_t kLittleEndian = 1;
constexpr std::uint16_t kMachineX8664 = 62;
constexpr std::uint32_t kTypeLoad = 1;
constexpr std::uint32_t kTypeNote = 4;
constexpr std::uint32_t kNotePhys32Entry = 18;  // XEN_ELFNOTE_PHYS32_ENTRY
constexpr std::size_t kMaxProgramHeaders = 64;
constexpr std::uint64_t kMaxNoteBytes = 64 * 1024;
constexpr std::size_t kMaxNotes = 1024;
constexpr std::uint64_t kLowestLoadAddress = 0x100000;  // below lies the boot data
constexpr std::uint64_t kHighestLoadAddress = 0x40000000;

Error invalid(const char* what) { return make_error(Errc::kInvalid, "the kernel %s", what); }

std::size_t align4(std::size_t value) { return (value + 3) & ~std::size_t{3}; }

// The entry in one note segment, 0 when it has none.
Result<std::uint32_t> find_pvh_entry(ByteView notes) {
  ByteReader reader(notes);
  for (std::size_t i = 0; i < kMaxNotes; ++i) {
    const auto header = reader.take<NoteHeader>();
    if (!header) return 0;
    if (header->name_size.get() > kMaxNoteBytes || header->description_size.get() > kMaxNoteBytes) {
      return invalid("has a note of impossible size");
    }
    const auto name = reader.take(align4(header->name_size.get()));
    if (!name) return invalid("has a note that is cut off");
    const std::size_t length = header->description_size.get();
    const auto description = reader.take(std::min(align4(length), reader.remaining()));
    if (description->size() < length) return invalid("has a note that is cut off");
    const bool xen = header->name_size.get() == 4 && std::memcmp(name->data(), "Xen", 4) == 0;
    if (!xen || header->type.get() != kNotePhys32Entry) continue;
    ByteReader value(description->first(length));
    if (length == 4) return value.take<Le32>()->get();
    if (length != 8) return invalid("has a PVH entry note of unknown size");
    const std::uint64_t entry = value.take<Le64>()->get();
    if (entry > 0xffffffffU) return invalid("has a PVH entry above 4 GiB");
    return static_cast<std::uint32_t>(entry);
  }
  return invalid("has too many notes");
}

Result<ElfSegment> check_segment(const ProgramHeader& header, std::uint64_t file_size) {
  const ElfSegment segment{.file_offset = header.offset.get(),
                           .file_size = header.file_size.get(),
                           .address = header.physical_address.get(),
                           .memory_size = header.memory_size.get()};
  if (segment.file_offset > file_size || segment.file_size > file_size - segment.file_offset) {
    return invalid("is cut off: a segment lies beyond the end of the file");
  }
  if (segment.memory_size < segment.file_size)
    return invalid("has a segment larger in the file than in memory");
  if (segment.address < kLowestLoadAddress || segment.address > kHighestLoadAddress ||
      segment.memory_size > kHighestLoadAddress - segment.address) {
    return invalid("has a segment outside of 1 MiB to 1 GiB of physical memory");
  }
  return segment;
}

Result<FileHeader> read_header(const ReadAt& read, std::uint64_t file_size) {
  if (file_size < sizeof(FileHeader)) return invalid("is not an ELF file: it is too short");
  MSB_ASSIGN(const Bytes raw, read(0, sizeof(FileHeader)));
  const auto header = ByteReader(raw).take<FileHeader>();
  if (!header) return invalid("is not an ELF file: it is too short");
  static constexpr std::array<std::uint8_t, 4> kMagic{0x7f, 'E', 'L', 'F'};
  if (!std::equal(kMagic.begin(), kMagic.end(), header->ident.begin())) {
    if (file_size >= 0x206) {
      MSB_ASSIGN(const Bytes setup, read(0x202, 4));
      if (setup.size() == 4 && std::memcmp(setup.data(), "HdrS", 4) == 0) {
        return invalid("is a compressed image (bzImage); give the uncompressed vmlinux");
      }
    }
    return invalid("is not an ELF file");
  }
  if (header->ident[4] != kClass64 || header->ident[5] != kLittleEndian ||
      header->machine.get() != kMachineX8664) {
    return invalid("is not for x86-64");
  }
  if (header->program_header_size.get() != sizeof(ProgramHeader)) return invalid("has odd program headers");
  if (header->program_header_count.get() == 0 || header->program_header_count.get() > kMaxProgramHeaders) {
    return invalid("has no or too many program headers");
  }
  return *header;
}

}  // namespace

Result<ElfKernel> parse_elf_kernel(const ReadAt& read, std::uint64_t file_size) {
  MSB_ASSIGN(const FileHeader header, read_header(read, file_size));
  const std::size_t table_size = std::size_t{header.program_header_count.get()} * sizeof(ProgramHeader);
  const std::uint64_t table_offset = header.program_headers.get();
  if (table_offset > file_size || table_size > file_size - table_offset) {
    return invalid("is cut off: the program headers lie beyond the end of the file");
  }
  MSB_ASSIGN(const Bytes table, read(table_offset, table_size));
  ElfKernel kernel;
  ByteReader reader(table);
  for (std::size_t i = 0; i < header.program_header_count.get(); ++i) {
    const auto entry = reader.take<ProgramHeader>();
    if (!entry) return invalid("is cut off: the program headers end early");
    if (entry->type.get() == kTypeLoad && entry->memory_size.get() > 0) {
      MSB_ASSIGN(const ElfSegment segment, check_segment(*entry, file_size));
      kernel.end = std::max(kernel.end, segment.address + segment.memory_size);
      kernel.segments.push_back(segment);
    } else if (entry->type.get() == kTypeNote && kernel.pvh_entry == 0) {
      const std::uint64_t offset = entry->offset.get();
      const std::uint64_t size = entry->file_size.get();
      if (offset > file_size || size > file_size - offset || size > kMaxNoteBytes) {
        return invalid("has notes that do not lie in the file or are too large");
      }
      MSB_ASSIGN(const Bytes notes, read(offset, static_cast<std::size_t>(size)));
      MSB_ASSIGN(kernel.pvh_entry, find_pvh_entry(notes));
    }
  }
  if (kernel.segments.empty()) return invalid("has nothing to load");
  if (kernel.pvh_entry == 0) return invalid("has no PVH entry note; build it with CONFIG_PVH=y");
  const bool inside = std::any_of(kernel.segments.begin(), kernel.segments.end(), [&](const ElfSegment& s) {
    return kernel.pvh_entry >= s.address && kernel.pvh_entry - s.address < s.memory_size;
  });
  if (!inside) return invalid("has a PVH entry outside of its segments");
  return kernel;
}

}  // namespace msb::vmm
