// SPDX-License-Identifier: Apache-2.0
#include "vmm/memory/guest_memory.h"

#include <fcntl.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <limits>

#include "vmm/memory/range_cursor.h"

namespace msb::vmm {
namespace {
constexpr std::uint64_t kPageMask = kGuestPageSize - 1;
constexpr std::uint64_t kLargePage = std::uint64_t{2} << 20;
constexpr int kMadvCollapse = 25;  // MADV_COLLAPSE, Linux 6.1; older kernels refuse it, and nothing is lost
bool page_aligned(std::uint64_t value) { return (value & kPageMask) == 0; }

// Maps `size` bytes of the file at `offset`, so that a large page of the file can be a large page of the
// mapping: address and offset agree modulo kLargePage.
void* map_aligned(int fd, std::uint64_t size, std::uint64_t offset, int flags) {
  const std::uint64_t span = size + kLargePage;
  void* const room = ::mmap(nullptr, span, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (room == MAP_FAILED) return MAP_FAILED;
  auto* const start = static_cast<std::uint8_t*>(room);
  const auto address = reinterpret_cast<std::uintptr_t>(start);
  const std::uint64_t lead = (offset - address) % kLargePage;
  void* const host =
      ::mmap(start + lead, size, PROT_READ | PROT_WRITE, flags | MAP_FIXED, fd, static_cast<off_t>(offset));
  if (host == MAP_FAILED) {
    ::munmap(room, span);
    return MAP_FAILED;
  }
  if (lead != 0) ::munmap(start, lead);
  ::munmap(start + lead + size, span - lead - size);
  return host;
}
}  // namespace

std::vector<RegionSpec> plan_regions(std::uint64_t size) {
  const std::uint64_t low = std::min(size, kHoleStart);
  std::vector<RegionSpec> plan{{Gpa{0}, low, 0}};
  if (size > low) plan.push_back({Gpa{kHoleEnd}, size - low, low});
  return plan;
}

Result<std::unique_ptr<GuestMemory>> GuestMemory::create(std::uint64_t size) {
  if (size == 0 || !page_aligned(size) ||
      size > static_cast<std::uint64_t>(std::numeric_limits<off_t>::max())) {
    return make_error(Errc::kInvalid,
                      "guest memory of %llu bytes is not a positive multiple of the page size",
                      static_cast<unsigned long long>(size));
  }
  UniqueFd memfd(::memfd_create("msb-guest", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!memfd) return sys_error("create guest memory");
  if (::ftruncate(memfd.get(), static_cast<off_t>(size)) != 0) return sys_error("size guest memory");
  // The size is fixed from here on: a shrunk file would turn our accesses into SIGBUS.
  if (::fcntl(memfd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) != 0)
    return sys_error("seal guest memory");
  const auto plan = plan_regions(size);
  return map(std::move(memfd), plan, Mapping::kShared);
}

Result<std::unique_ptr<GuestMemory>> GuestMemory::map(UniqueFd memfd, std::span<const RegionSpec> regions,
                                                      Mapping mapping) {
  if (regions.empty() || regions.size() > kMaxRegions) {
    return make_error(Errc::kInvalid, "guest memory needs 1 to %zu regions, not %zu", kMaxRegions,
                      regions.size());
  }
  const off_t file_size = ::lseek(memfd.get(), 0, SEEK_END);
  if (file_size < 0) return sys_error("size of guest memory");
  std::unique_ptr<GuestMemory> memory(new GuestMemory(std::move(memfd), mapping));
  std::uint64_t floor = 0;
  for (const RegionSpec& spec : regions) {
    const std::uint64_t base = to_u64(spec.base);
    const auto file_end = static_cast<std::uint64_t>(file_size);
    if (spec.size == 0 || !page_aligned(base | spec.size | spec.file_offset) || base < floor ||
        spec.size > std::numeric_limits<std::uint64_t>::max() - base || spec.file_offset > file_end ||
        spec.size > file_end - spec.file_offset) {
      return make_error(Errc::kInvalid,
                        "guest memory region at %#llx is misaligned, overlapping or outside its file",
                        static_cast<unsigned long long>(base));
    }
    floor = base + spec.size;
    const int flags = (mapping == Mapping::kShared ? MAP_SHARED : MAP_PRIVATE) | MAP_NORESERVE;
    void* host = map_aligned(memory->memfd_.get(), spec.size, spec.file_offset, flags);
    if (host == MAP_FAILED) return sys_error("map guest memory");
    // Guest RAM must not land in a core dump: it may hold secrets.
    ::madvise(host, spec.size, MADV_DONTDUMP);
    memory->regions_.push_back({base, spec.size, spec.file_offset, static_cast<std::uint8_t*>(host)});
    memory->size_ += spec.size;
  }
  return memory;
}

GuestMemory::~GuestMemory() {
  for (const Region& region : regions_) ::munmap(region.host, region.size);
}

std::vector<RegionInfo> GuestMemory::regions() const {
  std::vector<RegionInfo> infos;
  infos.reserve(regions_.size());
  for (const Region& region : regions_) {
    infos.push_back(
        {Gpa{region.base}, region.size, region.file_offset, reinterpret_cast<std::uintptr_t>(region.host)});
  }
  return infos;
}

void GuestMemory::prefer_large_pages(Gpa address, std::uint64_t length) {
  for_each_piece(address, length, [](const Place& place, std::uint64_t piece) {
    const auto first = reinterpret_cast<std::uintptr_t>(place.region->host);
    const std::uintptr_t last = first + place.region->size;
    std::uintptr_t begin = reinterpret_cast<std::uintptr_t>(place.host()) / kLargePage * kLargePage;
    if (begin < first) begin += kLargePage;
    std::uintptr_t end = reinterpret_cast<std::uintptr_t>(place.host()) + piece;
    end = (end + kLargePage - 1) / kLargePage * kLargePage;
    if (end > last) end = last / kLargePage * kLargePage;
    if (begin >= end) return;
    // Only what holds a page already is made large.
    for (std::uintptr_t at = begin; at < end; at += kLargePage) {
      (void)*reinterpret_cast<const volatile std::uint8_t*>(at);
    }
    ::madvise(reinterpret_cast<void*>(begin), end - begin, kMadvCollapse);
  });
}

std::optional<GuestMemory::Place> GuestMemory::find(std::uint64_t address) const {
  for (const Region& region : regions_) {
    if (address >= region.base && address - region.base < region.size)
      return Place{&region, address - region.base};
  }
  return std::nullopt;
}

bool GuestMemory::contains(Gpa address, std::uint64_t length) const {
  std::uint64_t at = to_u64(address);
  while (length > 0) {  // at most one step per region: each moves to the start of a later one
    const auto place = find(at);
    if (!place) return false;
    const std::uint64_t step = std::min(length, place->available());
    length -= step;
    if (length > 0 && __builtin_add_overflow(at, step, &at)) return false;
  }
  return true;
}

// Calls visit(place, length) for the piece in each region touched; false without a call when not all is RAM.
template <typename Visit>
bool GuestMemory::for_each_piece(Gpa address, std::uint64_t length, Visit visit) const {
  if (length == 0) return true;
  std::uint64_t at = to_u64(address);
  const auto first = find(at);
  if (!first) return false;
  if (length <= first->available()) {
    visit(*first, length);
    return true;
  }
  if (!contains(address, length)) return false;
  while (length > 0) {
    const auto place = find(at);
    const std::uint64_t step = std::min(length, place->available());
    visit(*place, step);
    at += step;
    length -= step;
  }
  return true;
}

bool GuestMemory::read(Gpa address, MutableBytes out) const {
  return for_each_piece(address, out.size(), [&](const Place& place, std::uint64_t length) {
    copy_from_guest(out.first(length), HostRange{place.host(), length});
    out = out.subspan(length);
  });
}

bool GuestMemory::write(Gpa address, ByteView bytes) {
  return for_each_piece(address, bytes.size(), [&](const Place& place, std::uint64_t length) {
    mark_dirty(place, length);
    copy_to_guest(HostRange{place.host(), length}, bytes.first(length));
    bytes = bytes.subspan(length);
  });
}

bool GuestMemory::zero(Gpa address, std::uint64_t length) {
  return for_each_piece(address, length, [&](const Place& place, std::uint64_t piece) {
    mark_dirty(place, piece);
    std::memset(place.host(), 0, piece);
  });
}

std::optional<std::uint16_t> GuestMemory::load_acquire(Gpa address) const {
  const auto place = find(to_u64(address));
  if (!place || (to_u64(address) & 1) != 0)
    return std::nullopt;  // even and in a page-aligned region: both bytes fit
  const std::atomic_ref<std::uint16_t> word(*reinterpret_cast<std::uint16_t*>(place->host()));
  return word.load(std::memory_order_acquire);
}

bool GuestMemory::store_release(Gpa address, std::uint16_t value) {
  const auto place = find(to_u64(address));
  if (!place || (to_u64(address) & 1) != 0) return false;
  mark_dirty(*place, sizeof value);
  const std::atomic_ref<std::uint16_t> word(*reinterpret_cast<std::uint16_t*>(place->host()));
  word.store(value, std::memory_order_release);
  return true;
}

bool GuestMemory::host_ranges(Gpa address, std::uint64_t length, Access access, std::vector<HostRange>& out) {
  return for_each_piece(address, length, [&](const Place& place, std::uint64_t piece) {
    if (access == Access::kDeviceWrites) mark_dirty(place, piece);
    out.push_back(HostRange{place.host(), piece});
  });
}

Status GuestMemory::discard(Gpa address, std::uint64_t length) {
  Status status;
  const bool inside = for_each_piece(address, length, [&](const Place& place, std::uint64_t piece) {
    mark_dirty(place, piece);
    if (status.ok()) status = discard_host(place.host(), piece);
  });
  if (!inside) return make_error(Errc::kInvalid, "discard guest memory outside RAM");
  return status;
}

Status GuestMemory::discard(const HostRange& range) {
  auto* const host = static_cast<std::uint8_t*>(range.iov_base);
  for (const Region& region : regions_) {
    if (host < region.host || host >= region.host + region.size) continue;
    const auto offset = static_cast<std::uint64_t>(host - region.host);
    if (range.iov_len > region.size - offset) break;
    mark_dirty(Place{&region, offset}, range.iov_len);
    return discard_host(host, range.iov_len);
  }
  return make_error(Errc::kInvalid, "discard guest memory outside RAM");
}

Status GuestMemory::discard_host(std::uint8_t* host, std::uint64_t length) {
  const auto start = reinterpret_cast<std::uintptr_t>(host);
  const std::uint64_t head = (kGuestPageSize - (start & kPageMask)) & kPageMask;
  if (length < head) return {};
  const std::uint64_t whole = (length - head) & ~kPageMask;
  if (whole == 0) return {};
  const int advice = mapping_ == Mapping::kShared ? MADV_REMOVE : MADV_DONTNEED;
  if (::madvise(host + head, whole, advice) != 0) return sys_error("discard guest memory");
  return {};
}

void GuestMemory::mark_dirty(const Place& place, std::uint64_t length) {
  if (dirty_.empty() || length == 0) return;
  const std::uint64_t first = (place.region->file_offset + place.offset) / kGuestPageSize;
  const std::uint64_t last = (place.region->file_offset + place.offset + length - 1) / kGuestPageSize;
  for (std::uint64_t page = first; page <= last; ++page) {  // bounded by the region's size
    dirty_[page / 64].fetch_or(std::uint64_t{1} << (page % 64), std::memory_order_relaxed);
  }
}

void GuestMemory::start_dirty_log() {
  std::uint64_t end = 0;
  for (const Region& region : regions_) end = std::max(end, region.file_offset + region.size);
  dirty_ = std::vector<std::atomic<std::uint64_t>>((end / kGuestPageSize + 63) / 64);
}

std::vector<std::uint64_t> GuestMemory::take_dirty_log() {
  std::vector<std::uint64_t> pages(dirty_.size());
  for (std::size_t i = 0; i < pages.size(); ++i) pages[i] = dirty_[i].exchange(0, std::memory_order_relaxed);
  return pages;
}

}  // namespace msb::vmm
