// SPDX-License-Identifier: Apache-2.0
// GuestMemory: the only door to guest RAM.
//
// Theory of operation. Guest RAM is one memfd, mapped once as one or more regions of guest physical addresses
// (two when there is more than fits below the hole under 4 GiB). The regions never change after creation, so
// every method may be called from any thread without a lock. What the guest does to the bytes meanwhile is a
// race we live with: a value is copied out exactly once, behind a compiler fence, and only the copy is looked
// at. No pointer or span into guest RAM leaves this room, with one exception: HostRange, for readv/writev and
// their kin, where the kernel does the copying. A HostRange stays valid as long as its GuestMemory.
#pragma once

#include <sys/uio.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "base/unique_fd.h"

namespace msb::vmm {

// A guest physical address. There is no arithmetic on it except add(), which can fail.
enum class Gpa : std::uint64_t {};
[[nodiscard]] constexpr std::uint64_t to_u64(Gpa address) { return static_cast<std::uint64_t>(address); }
[[nodiscard]] constexpr std::optional<Gpa> add(Gpa address, std::uint64_t bytes) {
  std::uint64_t sum = 0;
  if (__builtin_add_overflow(to_u64(address), bytes, &sum)) return std::nullopt;
  return Gpa{sum};
}

// A piece of guest RAM in our address space, only to be handed to the kernel (readv, writev, io_uring) or to
// the cursors of range_cursor.h.
using HostRange = ::iovec;

// Where a part of the memfd appears in the guest. Base, size and offset are multiples of the page size.
struct RegionSpec {
  Gpa base{};
  std::uint64_t size = 0;
  std::uint64_t file_offset = 0;
};

// One mapped region, for the hypervisor's memory slots. `host` is this process's address of its first byte.
struct RegionInfo {
  Gpa base{};
  std::uint64_t size = 0;
  std::uint64_t file_offset = 0;
  std::uintptr_t host = 0;
};

enum class Mapping : std::uint8_t {
  kShared,   // writes reach the memfd
  kPrivate,  // copy on write over the memfd: a fork of a template
};

// Who will store into the bytes of a HostRange.
enum class Access : std::uint8_t { kDeviceReads, kDeviceWrites };

inline constexpr std::uint64_t kGuestPageSize = 4096;
// RAM is never placed in [kHoleStart, kHoleEnd): interrupt controllers and device registers live there.
inline constexpr std::uint64_t kHoleStart = 0xc000'0000;
inline constexpr std::uint64_t kHoleEnd = 0x1'0000'0000;

// The regions for `size` bytes of RAM (a multiple of the page size): one from 0, and what does not fit below
// the hole from 4 GiB on. File offsets are consecutive.
[[nodiscard]] std::vector<RegionSpec> plan_regions(std::uint64_t size);

class GuestMemory {
 public:
  // Makes a sparse memfd of `size` bytes (non-zero, a multiple of the page size) and maps plan_regions(size).
  [[nodiscard]] static Result<std::unique_ptr<GuestMemory>> create(std::uint64_t size);
  // Maps `regions` (sorted by base, not overlapping, at most kMaxRegions) of `memfd`, which it takes.
  [[nodiscard]] static Result<std::unique_ptr<GuestMemory>> map(UniqueFd memfd,
                                                                std::span<const RegionSpec> regions,
                                                                Mapping mapping);
  ~GuestMemory();
  GuestMemory(const GuestMemory&) = delete;
  GuestMemory& operator=(const GuestMemory&) = delete;

  static constexpr std::size_t kMaxRegions = 16;

  [[nodiscard]] std::vector<RegionInfo> regions() const;
  // Borrowed.
  [[nodiscard]] int memfd() const { return memfd_.get(); }
  // Sum of the regions' sizes.
  [[nodiscard]] std::uint64_t size() const { return size_; }

  // Has the host back this range with its large pages, where it can: for what the guest is about to touch
  // whole. Touching it page by page costs the host a fault each. The range is widened to large pages; pages
  // of it are in use afterwards, zero where nothing was written. A wish: nothing tells whether it was
  // granted.
  void prefer_large_pages(Gpa address, std::uint64_t length);

  // Whether all of [address, address + length) is RAM. Length 0 is always contained.
  [[nodiscard]] bool contains(Gpa address, std::uint64_t length) const;

  // Copies between guest RAM and ours; all or nothing: false, and nothing copied, when any byte is not RAM.
  [[nodiscard]] bool read(Gpa address, MutableBytes out) const;
  [[nodiscard]] bool write(Gpa address, ByteView bytes);
  [[nodiscard]] bool zero(Gpa address, std::uint64_t length);

  // One copy of a wire structure: check and use the copy, never read the same field again.
  template <WireStruct T>
  [[nodiscard]] std::optional<T> read(Gpa address) const {
    T value;
    if (!read(address, MutableBytes(reinterpret_cast<std::uint8_t*>(&value), sizeof value)))
      return std::nullopt;
    return value;
  }
  template <WireStruct T>
  [[nodiscard]] bool write(Gpa address, const T& value) {
    return write(address, ByteView(reinterpret_cast<const std::uint8_t*>(&value), sizeof value));
  }

  // Ring indices: acquire to read theirs, release to publish ours. The address must be even; nullopt/false
  // when it is odd or not RAM.
  [[nodiscard]] std::optional<std::uint16_t> load_acquire(Gpa address) const;
  [[nodiscard]] bool store_release(Gpa address, std::uint16_t value);

  // Appends the pieces of [address, address + length) to `out`, one per region touched; nothing for length 0.
  // False, and `out` unchanged, when any byte is not RAM. With kDeviceWrites the pages count as dirty.
  [[nodiscard]] bool host_ranges(Gpa address, std::uint64_t length, Access access,
                                 std::vector<HostRange>& out);

  // Gives the pages wholly inside the range back to the host; they read as zeros afterwards (a private
  // mapping: as the template has them). Errors: kInvalid when not RAM, else the system call's.
  [[nodiscard]] Status discard(Gpa address, std::uint64_t length);
  // The same for a range that came from host_ranges().
  [[nodiscard]] Status discard(const HostRange& range);

  // Starts (or restarts, all clean) recording which pages we store into. The hypervisor's own dirty log sees
  // only the guest's stores. Call while nothing writes.
  void start_dirty_log();
  // The pages dirtied since the last call, as a bitmap over file offsets (bit n: page n of the memfd), and
  // cleans them. Empty when no log was started.
  [[nodiscard]] std::vector<std::uint64_t> take_dirty_log();

 private:
  struct Region {
    std::uint64_t base;
    std::uint64_t size;
    std::uint64_t file_offset;
    std::uint8_t* host;
  };
  struct Place {
    const Region* region;
    std::uint64_t offset;
    [[nodiscard]] std::uint64_t available() const { return region->size - offset; }
    [[nodiscard]] std::uint8_t* host() const { return region->host + offset; }
  };
  GuestMemory(UniqueFd memfd, Mapping mapping) : memfd_(std::move(memfd)), mapping_(mapping) {}
  [[nodiscard]] std::optional<Place> find(std::uint64_t address) const;
  template <typename Visit>
  bool for_each_piece(Gpa address, std::uint64_t length, Visit visit) const;
  void mark_dirty(const Place& place, std::uint64_t length);
  [[nodiscard]] Status discard_host(std::uint8_t* host, std::uint64_t length);

  UniqueFd memfd_;
  Mapping mapping_;
  std::uint64_t size_ = 0;
  std::vector<Region> regions_;
  std::vector<std::atomic<std::uint64_t>> dirty_;  // empty: not recording
};

}  // namespace msb::vmm
