// SPDX-License-Identifier: Apache-2.0
#include "oci/ext4_writer.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <string_view>

#include "base/bytes.h"
#include "base/file.h"
#include "oci/crc32c.h"
#include "oci/ext4_format.h"

namespace msb::oci::ext4 {
namespace {

constexpr std::uint64_t kBytesPerInode = 16 * 1024;  // as mke2fs
constexpr std::uint32_t kLostFoundBlocks = 4;        // room for e2fsck to put things without allocating
constexpr std::uint32_t kMinUsefulGroup = 64;        // blocks beyond its own metadata
constexpr std::uint32_t kUsedInodes = 13;            // the reserved ten, lost+found, upper, work
constexpr std::uint32_t kUpperInode = 12, kWorkInode = 13;

template <typename T>
ByteView bytes_of(const T& value) {
  return {reinterpret_cast<const std::uint8_t*>(&value), sizeof value};
}

bool is_power_of(std::uint64_t value, std::uint64_t base) {
  while (value % base == 0) value /= base;
  return value == 1;
}

// Groups that keep a copy of the superblock (sparse_super).
bool has_super(std::uint64_t group) {
  return group <= 1 || is_power_of(group, 3) || is_power_of(group, 5) || is_power_of(group, 7);
}

// Groups that hold the descriptors of their meta group, which is as many groups as one block describes.
bool has_descriptors(std::uint64_t group) {
  const std::uint64_t in_meta = group % kDescriptorsPerBlock;
  return in_meta <= 1 || in_meta == kDescriptorsPerBlock - 1;
}

// Length of the journal in blocks: as mke2fs chooses, but no more than fits group 0.
std::uint32_t journal_blocks(std::uint64_t blocks) {
  if (blocks < 32768) return 1024;
  if (blocks < 256 * 1024) return 4096;
  if (blocks < 512 * 1024) return 8192;
  return 16384;
}

class Maker {
 public:
  Maker(int fd, const Parameters& parameters) : fd_(fd), parameters_(parameters) {
    seed_ = crc32c(~std::uint32_t{0}, parameters.uuid);
    plan();
  }

  Status run() {
    if (::ftruncate(fd_, static_cast<off_t>(parameters_.bytes)) != 0)
      return sys_error("set the length of the filesystem's file");
    MSB_TRY(write_group_zero());
    MSB_TRY(write_last_bitmap());
    MSB_TRY(write_descriptors());
    for (std::uint64_t group = 0; group < groups_; ++group) {
      if (has_super(group)) MSB_TRY(write_super(group));
    }
    return {};
  }

 private:
  void plan() {
    blocks_ = parameters_.bytes / kBlockSize;
    groups_ = (blocks_ + kBlocksPerGroup - 1) / kBlocksPerGroup;
    // Inodes in proportion to space, in whole blocks of them, the same number in every group.
    const std::uint64_t group_bytes = std::min<std::uint64_t>(blocks_, kBlocksPerGroup) * kBlockSize;
    inodes_per_group_ =
        static_cast<std::uint32_t>(group_bytes / kBytesPerInode / kInodesPerBlock * kInodesPerBlock);
    table_blocks_ = inodes_per_group_ / static_cast<std::uint32_t>(kInodesPerBlock);
    const std::uint64_t last = blocks_ - (groups_ - 1) * kBlocksPerGroup;
    if (groups_ > 1 && last < overhead(groups_ - 1) + kMinUsefulGroup) {
      --groups_;
      blocks_ = groups_ * kBlocksPerGroup;
    }
    // Every group's inodes must be countable in 32 bits; 16 TiB has 2^30.
    std::uint64_t next = overhead(0);
    root_block_ = next;
    lost_found_block_ = next + 1;
    upper_block_ = lost_found_block_ + kLostFoundBlocks;
    work_block_ = upper_block_ + 1;
    journal_block_ = work_block_ + 1;
    journal_length_ = journal_blocks(blocks_);
    used_in_zero_ = journal_block_ + journal_length_;
  }

  // Blocks of a group taken by the filesystem itself, all at its beginning.
  [[nodiscard]] std::uint64_t overhead(std::uint64_t group) const {
    return (has_super(group) ? 1U : 0U) + (has_descriptors(group) ? 1U : 0U) + 2 + table_blocks_;
  }
  [[nodiscard]] std::uint64_t first_block(std::uint64_t group) const { return group * kBlocksPerGroup; }
  [[nodiscard]] std::uint64_t bitmaps_at(std::uint64_t group) const {
    return first_block(group) + overhead(group) - 2 - table_blocks_;
  }
  [[nodiscard]] std::uint64_t blocks_in(std::uint64_t group) const {
    return std::min<std::uint64_t>(kBlocksPerGroup, blocks_ - first_block(group));
  }
  [[nodiscard]] std::uint64_t used_in(std::uint64_t group) const {
    return group == 0 ? used_in_zero_ : overhead(group);
  }
  [[nodiscard]] Status write_block(std::uint64_t block, ByteView content) const {
    return pwrite_exact(fd_, content, block * kBlockSize);
  }

  // One bit per block; those past the group's end read as used.
  [[nodiscard]] Bytes block_bitmap(std::uint64_t group) const {
    Bytes map(kBlockSize);
    const auto set = [&map](std::uint64_t from, std::uint64_t to) {
      for (std::uint64_t bit = from; bit < to; ++bit)
        map[bit / 8] |= static_cast<std::uint8_t>(1U << bit % 8);
    };
    set(0, used_in(group));
    set(blocks_in(group), kBlocksPerGroup);
    return map;
  }
  [[nodiscard]] Bytes inode_bitmap() const {
    Bytes map(kBlockSize, 0xff);
    for (std::uint32_t bit = kUsedInodes; bit < inodes_per_group_; ++bit) {
      map[bit / 8] &= static_cast<std::uint8_t>(~(1U << bit % 8));
    }
    return map;
  }

  Status write_last_bitmap() const {
    const std::uint64_t last = groups_ - 1;
    return last == 0 ? Status{} : write_block(bitmaps_at(last), block_bitmap(last));
  }

  Status write_descriptors() const {
    for (std::uint64_t meta = 0; meta < groups_; meta += kDescriptorsPerBlock) {
      ByteWriter block;
      const std::uint64_t end = std::min<std::uint64_t>(groups_, meta + kDescriptorsPerBlock);
      for (std::uint64_t group = meta; group < end; ++group) block.put(descriptor(group));
      block.align(kBlockSize);
      for (const std::uint64_t holder : {meta, meta + 1, meta + kDescriptorsPerBlock - 1}) {
        if (holder >= groups_) continue;
        MSB_TRY(write_block(first_block(holder) + (has_super(holder) ? 1 : 0), block.view()));
      }
    }
    return {};
  }

  [[nodiscard]] GroupDescriptor descriptor(std::uint64_t group) const {
    GroupDescriptor out;
    const std::uint64_t bitmap = bitmaps_at(group);
    const auto lo = [](std::uint64_t value) { return static_cast<std::uint32_t>(value); };
    const auto hi = [](std::uint64_t value) { return static_cast<std::uint32_t>(value >> 32); };
    out.block_bitmap_lo = lo(bitmap);
    out.block_bitmap_hi = hi(bitmap);
    out.inode_bitmap_lo = lo(bitmap + 1);
    out.inode_bitmap_hi = hi(bitmap + 1);
    out.inode_table_lo = lo(bitmap + 2);
    out.inode_table_hi = hi(bitmap + 2);
    const auto free_blocks = static_cast<std::uint16_t>(blocks_in(group) - used_in(group));
    out.free_blocks_lo = free_blocks;
    const bool first = group == 0;
    const auto free_inodes = static_cast<std::uint16_t>(inodes_per_group_ - (first ? kUsedInodes : 0));
    out.free_inodes_lo = free_inodes;
    out.unused_inodes_lo = free_inodes;
    out.used_dirs_lo = static_cast<std::uint16_t>(first ? 4 : 0);
    unsigned flags = kInodeZeroed;
    if (!first) flags |= kInodeUninit;
    if (!first && group != groups_ - 1) flags |= kBlockUninit;
    out.flags = static_cast<std::uint16_t>(flags);
    if ((flags & kBlockUninit) == 0) {
      const std::uint32_t sum = crc32c(seed_, block_bitmap(group));
      out.block_bitmap_csum_lo = static_cast<std::uint16_t>(sum);
      out.block_bitmap_csum_hi = static_cast<std::uint16_t>(sum >> 16);
    }
    if (first) {
      const std::uint32_t sum = crc32c(seed_, ByteView(inode_bitmap()).first(inodes_per_group_ / 8));
      out.inode_bitmap_csum_lo = static_cast<std::uint16_t>(sum);
      out.inode_bitmap_csum_hi = static_cast<std::uint16_t>(sum >> 16);
    }
    const Le32 number(static_cast<std::uint32_t>(group));
    out.checksum = static_cast<std::uint16_t>(crc32c(crc32c(seed_, bytes_of(number)), bytes_of(out)));
    return out;
  }

  [[nodiscard]] std::uint32_t inode_seed(std::uint32_t number) const {
    const Le32 raw(number), generation(0);
    return crc32c(crc32c(seed_, bytes_of(raw)), bytes_of(generation));
  }

  [[nodiscard]] Inode make_inode(std::uint16_t mode, std::uint16_t links, std::uint64_t start,
                                 std::uint32_t length) const {
    Inode inode;
    const auto now = static_cast<std::uint32_t>(parameters_.time_s);
    // Bits 32 and 33 of the seconds; nanoseconds above them stay 0.
    const auto epoch =
        static_cast<std::uint32_t>((parameters_.time_s - static_cast<std::int32_t>(now)) >> 32) & 3;
    inode.mode = mode;
    inode.links = links;
    inode.size_lo = static_cast<std::uint32_t>(std::uint64_t{length} * kBlockSize);
    inode.atime = inode.ctime = inode.mtime = inode.crtime = now;
    inode.atime_extra = inode.ctime_extra = inode.mtime_extra = inode.crtime_extra = epoch;
    inode.blocks_lo = length * static_cast<std::uint32_t>(kBlockSize / 512);
    inode.flags = kInodeExtents;
    inode.extra_size = 32;
    ExtentHeader header;
    header.magic = kExtentMagic;
    header.entries = std::uint16_t{1};
    header.max = kExtentsInInode;
    Extent extent;
    extent.length = static_cast<std::uint16_t>(length);
    extent.start_lo = static_cast<std::uint32_t>(start);
    std::memcpy(inode.block.data(), &header, sizeof header);
    std::memcpy(inode.block.data() + sizeof header, &extent, sizeof extent);
    return inode;
  }

  void put_inode(Bytes& table, std::uint32_t number, Inode inode) const {
    const std::uint32_t sum = crc32c(inode_seed(number), bytes_of(inode));
    inode.checksum_lo = static_cast<std::uint16_t>(sum);
    inode.checksum_hi = static_cast<std::uint16_t>(sum >> 16);
    std::memcpy(table.data() + (number - 1) * kInodeSize, &inode, sizeof inode);
  }

  struct Name {
    std::uint32_t inode;
    std::string_view text;
  };
  // One block of directory entries; the last one reaches to the checksum at the end. No names: an empty
  // block.
  [[nodiscard]] Bytes directory_block(std::uint32_t owner, std::initializer_list<Name> names) const {
    ByteWriter out;
    constexpr std::size_t kRoom = kBlockSize - sizeof(DirTail);
    std::size_t left = names.size();
    if (left == 0) {
      DirEntry entry;
      entry.record_length = static_cast<std::uint16_t>(kRoom);
      out.put(entry);
    }
    for (const Name& name : names) {
      DirEntry entry;
      const std::size_t need = (sizeof entry + name.text.size() + 3) / 4 * 4;
      const std::size_t start = out.size();
      entry.inode = name.inode;
      entry.record_length = static_cast<std::uint16_t>(--left == 0 ? kRoom - start : need);
      entry.name_length = static_cast<std::uint8_t>(name.text.size());
      entry.file_type = kTypeDirectory;
      out.put(entry);
      out.put_text(name.text);
      out.align(4);
    }
    out.put_zeros(kRoom - out.size());
    DirTail tail;
    tail.record_length = static_cast<std::uint16_t>(sizeof tail);
    tail.file_type = kTailFileType;
    tail.checksum = crc32c(inode_seed(owner), out.view());
    out.put(tail);
    return std::move(out).take();
  }

  Status write_group_zero() {
    MSB_TRY(write_block(bitmaps_at(0), block_bitmap(0)));
    MSB_TRY(write_block(bitmaps_at(0) + 1, inode_bitmap()));
    Bytes table(kBlockSize);  // the first block of it: sixteen inodes
    static_assert(kUsedInodes <= kInodesPerBlock);
    put_inode(table, kRootInode, make_inode(S_IFDIR | 0755, 5, root_block_, 1));
    put_inode(table, kFirstFreeInode, make_inode(S_IFDIR | 0700, 2, lost_found_block_, kLostFoundBlocks));
    put_inode(table, kUpperInode, make_inode(S_IFDIR | 0755, 2, upper_block_, 1));
    put_inode(table, kWorkInode, make_inode(S_IFDIR | 0755, 2, work_block_, 1));
    const Inode journal = make_inode(S_IFREG | 0600, 1, journal_block_, journal_length_);
    journal_map_ = journal.block;
    put_inode(table, kJournalInode, journal);
    MSB_TRY(write_block(bitmaps_at(0) + 2, table));
    MSB_TRY(write_block(root_block_, directory_block(kRootInode, {{kRootInode, "."},
                                                                  {kRootInode, ".."},
                                                                  {kFirstFreeInode, "lost+found"},
                                                                  {kUpperInode, "upper"},
                                                                  {kWorkInode, "work"}})));
    const auto empty = [&](std::uint32_t inode) {
      return directory_block(inode, {{inode, "."}, {kRootInode, ".."}});
    };
    MSB_TRY(write_block(lost_found_block_, empty(kFirstFreeInode)));
    for (std::uint32_t i = 1; i < kLostFoundBlocks; ++i) {
      MSB_TRY(write_block(lost_found_block_ + i, directory_block(kFirstFreeInode, {})));
    }
    MSB_TRY(write_block(upper_block_, empty(kUpperInode)));
    MSB_TRY(write_block(work_block_, empty(kWorkInode)));

    JournalSuper super;
    super.magic = kJournalMagic;
    super.block_type = kJournalSuperV2;
    super.block_size = static_cast<std::uint32_t>(kBlockSize);
    super.max_length = journal_length_;
    super.first = 1;
    super.sequence = 1;
    super.uuid = parameters_.uuid;
    super.users = 1;
    return write_block(journal_block_, bytes_of(super));
  }

  Status write_super(std::uint64_t group) const {
    SuperBlock super;
    std::uint64_t free_blocks = 0;
    for (std::uint64_t i = 0; i < groups_; ++i) free_blocks += blocks_in(i) - used_in(i);
    const auto inodes = static_cast<std::uint32_t>(groups_ * inodes_per_group_);
    super.inodes_count = inodes;
    super.free_inodes = inodes - kUsedInodes;
    super.blocks_count_lo = static_cast<std::uint32_t>(blocks_);
    super.blocks_count_hi = static_cast<std::uint32_t>(blocks_ >> 32);
    super.free_blocks_lo = static_cast<std::uint32_t>(free_blocks);
    super.free_blocks_hi = static_cast<std::uint32_t>(free_blocks >> 32);
    super.log_block_size = super.log_cluster_size = kLogBlockSize;
    super.blocks_per_group = super.clusters_per_group = kBlocksPerGroup;
    super.inodes_per_group = inodes_per_group_;
    const auto now = static_cast<std::uint32_t>(parameters_.time_s);
    super.write_time = super.last_check = super.mkfs_time = now;
    super.max_mount_count = std::uint16_t{0xffff};  // never checked by count
    super.magic = std::uint16_t{0xef53};
    super.state = std::uint16_t{1};   // clean
    super.errors = std::uint16_t{1};  // go on
    super.revision = 1;
    super.first_inode = kFirstFreeInode;
    super.inode_size = static_cast<std::uint16_t>(kInodeSize);
    super.block_group = static_cast<std::uint16_t>(group);
    super.feature_compat = kCompatHasJournal | kCompatExtAttr | kCompatDirIndex;
    super.feature_incompat = kIncompatFileType | kIncompatMetaBg | kIncompatExtents | kIncompat64Bit;
    super.feature_ro_compat =
        kRoSparseSuper | kRoLargeFile | kRoHugeFile | kRoDirNlink | kRoExtraIsize | kRoMetadataCsum;
    super.uuid = parameters_.uuid;
    super.journal_inode = kJournalInode;
    std::memcpy(super.hash_seed.data(), parameters_.hash_seed.data(), parameters_.hash_seed.size());
    super.hash_version = 1;  // half MD4
    super.flags = 1;         // signed name bytes in hashes, as x86 has them
    super.journal_backup_type = 1;
    super.journal_backup = journal_map_;
    super.journal_size_lo = static_cast<std::uint32_t>(std::uint64_t{journal_length_} * kBlockSize);
    super.descriptor_size = static_cast<std::uint16_t>(sizeof(GroupDescriptor));
    super.default_mount_options = 0x4 | 0x8;  // user attributes, ACLs
    super.min_extra_isize = super.want_extra_isize = std::uint16_t{32};
    super.checksum_type = 1;  // crc32c
    super.checksum = crc32c(~std::uint32_t{0}, bytes_of(super).first(offsetof(SuperBlock, checksum)));
    const std::uint64_t offset = group == 0 ? kSuperOffset : first_block(group) * kBlockSize;
    return pwrite_exact(fd_, bytes_of(super), offset);
  }

  int fd_;
  const Parameters& parameters_;
  std::uint32_t seed_ = 0;
  std::uint64_t blocks_ = 0;
  std::uint64_t groups_ = 0;
  std::uint32_t inodes_per_group_ = 0;
  std::uint32_t table_blocks_ = 0;
  std::uint64_t root_block_ = 0, lost_found_block_ = 0, upper_block_ = 0, work_block_ = 0, journal_block_ = 0;
  std::uint32_t journal_length_ = 0;
  std::uint64_t used_in_zero_ = 0;
  std::array<std::uint8_t, 60> journal_map_{};
};

}  // namespace

Status make_filesystem(int fd, const Parameters& parameters) {
  if (parameters.bytes < kMinBytes || parameters.bytes > kMaxBytes || parameters.bytes % kBlockSize != 0) {
    return make_error(Errc::kInvalid,
                      "an ext4 of %llu bytes: the size must be from 16 MiB to 16 TiB in steps of 4 KiB",
                      static_cast<unsigned long long>(parameters.bytes));
  }
  return Maker(fd, parameters).run();
}

}  // namespace msb::oci::ext4
