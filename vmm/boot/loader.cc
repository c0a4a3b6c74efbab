// SPDX-License-Identifier: Apache-2.0
#include "vmm/boot/loader.h"

#include <sys/stat.h>
#include <sys/uio.h>

#include <algorithm>
#include <vector>

#include "base/file.h"
#include "vmm/arch/x86_64/registers.h"
#include "vmm/boot/elf.h"
#include "vmm/memory_map.h"

namespace msb::vmm {
namespace {

constexpr std::uint64_t kMaxInitrd = 512 * kMiB;
constexpr std::uint64_t kPageTableSlack = 4 * kMiB;

// Reads [offset, offset + length) of the file straight into guest RAM.
Status read_into_guest(int fd, std::uint64_t offset, std::uint64_t length, std::uint64_t address,
                       GuestMemory& memory) {
  std::vector<HostRange> ranges;
  if (!memory.host_ranges(Gpa{address}, length, Access::kDeviceWrites, ranges)) {
    return make_error(Errc::kLimit, "not enough guest memory for %llu bytes at 0x%llx",
                      static_cast<unsigned long long>(length), static_cast<unsigned long long>(address));
  }
  for (HostRange range : ranges) {
    while (range.iov_len > 0) {  // each step reads at least a byte
      const ssize_t got = ::preadv(fd, &range, 1, static_cast<off_t>(offset));
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) return sys_error("read into guest memory");
      if (got == 0) return make_error(Errc::kCorrupt, "read into guest memory: the file ended early");
      offset += static_cast<std::uint64_t>(got);
      range.iov_base = static_cast<char*>(range.iov_base) + got;
      range.iov_len -= static_cast<std::size_t>(got);
    }
  }
  return {};
}

Result<std::uint64_t> file_size(int fd) {
  struct stat info {};
  if (::fstat(fd, &info) != 0) return sys_error("stat");
  return static_cast<std::uint64_t>(info.st_size);
}

std::uint64_t low_ram_end(const GuestMemory& memory) {
  const auto regions = memory.regions();
  return to_u64(regions.front().base) + regions.front().size;
}

// The first thing Linux does with its memory is to fill a table of all pages, 64 bytes each, which it puts at
// the top of RAM, below what lies there already (the initial ramdisk); below that come its hash tables, which
// grow with memory too. One page of the host after the other, that takes longer than all the rest of its
// start.
void prefer_large_page_table(GuestMemory& memory) {
  const RegionInfo top = memory.regions().back();
  const std::uint64_t table = memory.size() / 64 + memory.size() / 512 + kPageTableSlack;
  const std::uint64_t length = std::min(table, top.size / 2);
  memory.prefer_large_pages(Gpa{to_u64(top.base) + top.size - length}, length);
}

}  // namespace

Result<LoadedKernel> load_kernel(int fd, GuestMemory& memory) {
  MSB_ASSIGN(const std::uint64_t size, file_size(fd));
  const auto read = [&](std::uint64_t offset, std::size_t length) -> Result<Bytes> {
    Bytes bytes(length);
    MSB_TRY(pread_exact(fd, bytes, offset));
    return bytes;
  };
  MSB_ASSIGN(const ElfKernel kernel, parse_elf_kernel(read, size));
  if (kernel.end > low_ram_end(memory)) {
    const std::uint64_t needed_mib = kernel.end / kMiB + 1;
    return make_error(Errc::kLimit, "the kernel needs %llu MiB of guest memory to load; the machine has %llu",
                      static_cast<unsigned long long>(needed_mib),
                      static_cast<unsigned long long>(memory.size() / kMiB));
  }
  // Below the kernel lies what Linux hands out first: nearly all pages that its start asks for.
  memory.prefer_large_pages(Gpa{0}, kernel.end);
  prefer_large_page_table(memory);
  for (const ElfSegment& segment : kernel.segments) {
    // What lies behind the file's bytes is zero: the memory is new.
    MSB_TRY(read_into_guest(fd, segment.file_offset, segment.file_size, segment.address, memory));
  }
  return LoadedKernel{kernel.pvh_entry, kernel.end};
}

Result<Placement> load_initrd(int fd, ByteView extra, std::uint64_t floor, GuestMemory& memory) {
  MSB_ASSIGN(const std::uint64_t size, file_size(fd));
  if (size > kMaxInitrd)
    return make_error(Errc::kLimit, "it has more than %llu MiB",
                      static_cast<unsigned long long>(kMaxInitrd / kMiB));
  const std::uint64_t aligned = (size + 3) & ~std::uint64_t{3};
  const std::uint64_t total = aligned + extra.size();
  const std::uint64_t end = low_ram_end(memory);
  const std::uint64_t low = std::max(floor, kHighMemoryStart);
  if (end <= low || total > end - low) {
    return make_error(Errc::kLimit,
                      "not enough guest memory for an initial ramdisk of %llu bytes behind the kernel",
                      static_cast<unsigned long long>(total));
  }
  const std::uint64_t address = (end - total) & ~(kGuestPageSize - 1);
  if (address < low) return make_error(Errc::kLimit, "not enough guest memory for the initial ramdisk");
  MSB_TRY(read_into_guest(fd, 0, size, address, memory));
  if (!memory.write(Gpa{address + aligned}, extra))
    return make_error(Errc::kInternal, "place the initial ramdisk");
  return Placement{address, total};
}

Status place_boot_data(GuestMemory& memory, std::string_view cmdline, Placement initrd, const MpTable& mp) {
  const StartInfo start = build_start_info(plan_regions(memory.size()), initrd);
  Bytes line(cmdline.begin(), cmdline.end());
  line.push_back(0);
  const bool placed =
      memory.write(Gpa{kStartInfoAddress}, start.info) &&
      memory.write(Gpa{kModuleListAddress}, start.module_list) &&
      memory.write(Gpa{kMemoryMapAddress}, start.memory_map) && memory.write(Gpa{kCmdlineAddress}, line) &&
      memory.write(Gpa{kGdtAddress}, build_gdt()) && memory.write(Gpa{kMpTableAddress}, mp.table) &&
      memory.write(Gpa{kMpPointerAddress}, mp.pointer);
  if (!placed) return make_error(Errc::kLimit, "not enough guest memory for the boot data");
  return {};
}

}  // namespace msb::vmm
