// SPDX-License-Identifier: Apache-2.0
#include "vmm/memory/guest_memory.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/memory/range_cursor.h"

namespace msb::vmm {
namespace {

constexpr std::uint64_t kMiB = 1 << 20;
constexpr std::uint64_t kMax = ~std::uint64_t{0};

// Two regions that touch, and one beyond a gap, over 6 pages of a file.
std::unique_ptr<GuestMemory> three_regions(Mapping mapping = Mapping::kShared) {
  UniqueFd fd(::memfd_create("test", MFD_CLOEXEC));
  EXPECT_EQ(::ftruncate(fd.get(), 6 * 4096), 0);
  const RegionSpec specs[] = {
      {Gpa{0x10000}, 8192, 8192}, {Gpa{0x12000}, 8192, 0}, {Gpa{0x20000}, 8192, 16384}};
  return std::move(GuestMemory::map(std::move(fd), specs, mapping)).value();
}

TEST(PlanRegionsTest, HoleBelow4GiB) {
  EXPECT_EQ(plan_regions(512 * kMiB).size(), 1u);
  EXPECT_EQ(plan_regions(kHoleStart).size(), 1u);
  const auto plan = plan_regions(6 * 1024 * kMiB);
  ASSERT_EQ(plan.size(), 2u);
  EXPECT_EQ(plan[0].size, kHoleStart);
  EXPECT_EQ(to_u64(plan[1].base), kHoleEnd);
  EXPECT_EQ(plan[1].file_offset, kHoleStart);
  EXPECT_EQ(plan[0].size + plan[1].size, 6 * 1024 * kMiB);
}

TEST(GuestMemoryTest, Create_LargeIsSparse_HoleIsNotRam) {
  const auto memory = std::move(GuestMemory::create(6 * 1024 * kMiB)).value();
  EXPECT_TRUE(memory->contains(Gpa{kHoleStart - 1}, 1));
  EXPECT_FALSE(memory->contains(Gpa{kHoleStart - 1}, 2));
  EXPECT_FALSE(memory->contains(Gpa{kHoleEnd - 1}, 1));
  EXPECT_TRUE(memory->contains(Gpa{kHoleEnd}, 3 * 1024 * kMiB));
  EXPECT_FALSE(memory->contains(Gpa{kHoleEnd}, 3 * 1024 * kMiB + 1));
  EXPECT_EQ(memory->size(), 6 * 1024 * kMiB);
}

TEST(GuestMemoryTest, BadSizesAndRegions_AreRefused) {
  EXPECT_FALSE(GuestMemory::create(0).ok());
  EXPECT_FALSE(GuestMemory::create(4095).ok());
  EXPECT_FALSE(GuestMemory::create(kMax & ~std::uint64_t{4095}).ok());
  const auto refused = [](std::vector<RegionSpec> specs) {
    UniqueFd fd(::memfd_create("test", MFD_CLOEXEC));
    EXPECT_EQ(::ftruncate(fd.get(), 8192), 0);
    return !GuestMemory::map(std::move(fd), specs, Mapping::kShared).ok();
  };
  EXPECT_TRUE(refused({}));
  EXPECT_TRUE(refused({{Gpa{1}, 4096, 0}}));
  EXPECT_TRUE(refused({{Gpa{0}, 12288, 0}}));
  EXPECT_TRUE(refused({{Gpa{0}, 8192, 4096}}));
  EXPECT_TRUE(refused({{Gpa{0}, 8192, 0}, {Gpa{4096}, 4096, 0}}));
  EXPECT_TRUE(refused({{Gpa{kMax & ~std::uint64_t{4095}}, 8192, 0}}));
  EXPECT_TRUE(refused(std::vector<RegionSpec>(17, RegionSpec{Gpa{0}, 4096, 0})));
  EXPECT_FALSE(refused({{Gpa{0}, 8192, 0}}));
}

TEST(GuestMemoryTest, Ranges_ThatWrapOrLeave_AreRefused) {
  const auto memory = three_regions();
  Bytes bytes(16);
  for (const Gpa at :
       {Gpa{0}, Gpa{0xfff8}, Gpa{0x14000}, Gpa{0x13ff8}, Gpa{0x1fff8}, Gpa{0x21ff8}, Gpa{kMax - 7}}) {
    EXPECT_FALSE(memory->read(at, bytes));
    EXPECT_FALSE(memory->write(at, bytes));
    EXPECT_FALSE(memory->zero(at, 16));
    EXPECT_FALSE(memory->discard(at, 16).ok());
  }
  EXPECT_FALSE(memory->contains(Gpa{0x10000}, kMax));
  EXPECT_TRUE(memory->contains(Gpa{kMax}, 0));
  EXPECT_EQ(add(Gpa{kMax}, 1), std::nullopt);
  EXPECT_EQ(add(Gpa{1}, 2), Gpa{3});
}

TEST(GuestMemoryTest, AccessAcrossTouchingRegions_IsOneRange) {
  const auto memory = three_regions();
  Bytes bytes(100);
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::uint8_t>(i);
  ASSERT_TRUE(memory->write(Gpa{0x12000 - 50}, bytes));
  Bytes back(100);
  ASSERT_TRUE(memory->read(Gpa{0x12000 - 50}, back));
  EXPECT_EQ(back, bytes);
  std::vector<HostRange> ranges;
  ASSERT_TRUE(memory->host_ranges(Gpa{0x12000 - 50}, 100, Access::kDeviceReads, ranges));
  ASSERT_EQ(ranges.size(), 2u);
  EXPECT_EQ(ranges[0].iov_len, 50u);
  RangeReader reader(ranges);
  Bytes part(70);
  ASSERT_TRUE(reader.skip(10));
  ASSERT_TRUE(reader.read(part));
  EXPECT_EQ(part, Bytes(bytes.begin() + 10, bytes.begin() + 80));
  EXPECT_EQ(reader.remaining(), 20u);
  EXPECT_FALSE(reader.skip(21));
  EXPECT_FALSE(memory->host_ranges(Gpa{0x13000}, 8192, Access::kDeviceReads, ranges));
  EXPECT_EQ(ranges.size(), 2u);
}

TEST(GuestMemoryTest, RingIndices_NeedEvenAddresses) {
  const auto memory = three_regions();
  EXPECT_TRUE(memory->store_release(Gpa{0x13ffe}, 0xbeef));
  EXPECT_EQ(memory->load_acquire(Gpa{0x13ffe}), 0xbeef);
  EXPECT_FALSE(memory->store_release(Gpa{0x13ffd}, 1));
  EXPECT_EQ(memory->load_acquire(Gpa{0x13fff}), std::nullopt);
  EXPECT_EQ(memory->load_acquire(Gpa{0x14000}), std::nullopt);
}

TEST(GuestMemoryTest, Discard_OnlyWholePagesInside) {
  const auto memory = three_regions();
  ASSERT_TRUE(memory->write(Gpa{0x10000}, Bytes(16384, 9)));
  ASSERT_TRUE(memory->discard(Gpa{0x10001}, 16383 - 1).ok());
  Bytes back(16384);
  ASSERT_TRUE(memory->read(Gpa{0x10000}, back));
  Bytes expected(16384, 9);
  std::fill(expected.begin() + 4096, expected.begin() + 12288, std::uint8_t{0});
  EXPECT_EQ(back, expected);
  EXPECT_TRUE(memory->discard(Gpa{0x10010}, 20).ok());
  const HostRange foreign{&back[0], 4096};
  EXPECT_FALSE(memory->discard(foreign).ok());
}

TEST(GuestMemoryTest, PreferLargePages_KeepsTheContents) {
  constexpr std::uint64_t kLarge = 2 * kMiB;
  const auto memory = std::move(GuestMemory::create(16 * kMiB + 4096)).value();
  // A large page of the file can only be one of the mapping where address and offset agree.
  EXPECT_EQ(memory->regions().front().host % kLarge, 0u);
  ASSERT_TRUE(memory->store_release(Gpa{3 * kMiB}, 0x1234));
  ASSERT_TRUE(memory->store_release(Gpa{16 * kMiB}, 0x9abc));
  memory->prefer_large_pages(Gpa{3 * kMiB}, 100);           // widened
  memory->prefer_large_pages(Gpa{15 * kMiB}, kMiB + 4096);  // its end is no whole large page
  memory->prefer_large_pages(Gpa{64 * kMiB}, kMiB);         // no RAM there
  memory->prefer_large_pages(Gpa{0}, 0);
  EXPECT_EQ(memory->load_acquire(Gpa{3 * kMiB}), 0x1234);
  EXPECT_EQ(memory->load_acquire(Gpa{16 * kMiB}), 0x9abc);
  EXPECT_EQ(memory->load_acquire(Gpa{2 * kMiB}), 0);
  struct stat info {};
  ASSERT_EQ(::fstat(memory->memfd(), &info), 0);
  EXPECT_GE(info.st_blocks * 512, 2 * 4096) << "the pages asked for are in use";
}

TEST(GuestMemoryTest, PrivateMapping_LeavesTheTemplateAlone) {
  const auto memory = three_regions(Mapping::kPrivate);
  ASSERT_TRUE(memory->write(Gpa{0x20000}, Bytes(4096, 3)));
  Bytes in_file(4096, 1);
  ASSERT_EQ(::pread(memory->memfd(), in_file.data(), 4096, 16384), 4096);
  EXPECT_EQ(in_file, Bytes(4096));
  ASSERT_TRUE(memory->discard(Gpa{0x20000}, 4096).ok());
  EXPECT_EQ(memory->read<Le32>(Gpa{0x20000})->get(), 0u);
}

TEST(GuestMemoryTest, DirtyLog_SeesOurStores) {
  const auto memory = three_regions();
  EXPECT_TRUE(memory->take_dirty_log().empty());
  memory->start_dirty_log();
  ASSERT_TRUE(memory->write(Gpa{0x10ffe}, Bytes(4)));   // pages 2 and 3 of the file
  ASSERT_TRUE(memory->store_release(Gpa{0x12000}, 1));  // page 0
  std::vector<HostRange> ranges;
  ASSERT_TRUE(memory->host_ranges(Gpa{0x21000}, 1, Access::kDeviceWrites, ranges));  // page 5
  ASSERT_TRUE(memory->host_ranges(Gpa{0x20000}, 1, Access::kDeviceReads, ranges));
  EXPECT_EQ(memory->take_dirty_log(), (std::vector<std::uint64_t>{0b101101}));
  EXPECT_EQ(memory->take_dirty_log(), (std::vector<std::uint64_t>{0}));
}

}  // namespace
}  // namespace msb::vmm
