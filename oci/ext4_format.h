// SPDX-License-Identifier: Apache-2.0
// ext4 as it lies on disk, as far as an empty filesystem needs it. Source: Linux
// Documentation/filesystems/ext4. Little-endian; the journal's own block is big-endian (jbd2).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "base/wire.h"

namespace msb::oci::ext4 {

inline constexpr std::size_t kBlockSize = 4096;
inline constexpr unsigned kLogBlockSize = 2;                      // 1024 << 2
inline constexpr std::uint32_t kBlocksPerGroup = 8 * kBlockSize;  // what one block of bitmap covers
inline constexpr std::size_t kSuperOffset = 1024;
inline constexpr std::size_t kInodeSize = 256;
inline constexpr std::size_t kInodesPerBlock = kBlockSize / kInodeSize;

inline constexpr std::uint32_t kRootInode = 2;
inline constexpr std::uint32_t kJournalInode = 8;
inline constexpr std::uint32_t kFirstFreeInode = 11;

inline constexpr std::uint32_t kCompatHasJournal = 0x4, kCompatExtAttr = 0x8, kCompatDirIndex = 0x20;
inline constexpr std::uint32_t kIncompatFileType = 0x2, kIncompatMetaBg = 0x10, kIncompatExtents = 0x40,
                               kIncompat64Bit = 0x80;
inline constexpr std::uint32_t kRoSparseSuper = 0x1, kRoLargeFile = 0x2, kRoHugeFile = 0x8,
                               kRoDirNlink = 0x20, kRoExtraIsize = 0x40, kRoMetadataCsum = 0x400;

struct SuperBlock {
  Le32 inodes_count;
  Le32 blocks_count_lo;
  Le32 reserved_blocks_lo;
  Le32 free_blocks_lo;
  Le32 free_inodes;
  Le32 first_data_block;
  Le32 log_block_size;
  Le32 log_cluster_size;
  Le32 blocks_per_group;
  Le32 clusters_per_group;
  Le32 inodes_per_group;
  Le32 mount_time;
  Le32 write_time;
  Le16 mount_count;
  Le16 max_mount_count;
  Le16 magic;
  Le16 state;
  Le16 errors;
  Le16 minor_revision;
  Le32 last_check;
  Le32 check_interval;
  Le32 creator_os;
  Le32 revision;
  Le16 reserved_uid;
  Le16 reserved_gid;
  Le32 first_inode;
  Le16 inode_size;
  Le16 block_group;
  Le32 feature_compat;
  Le32 feature_incompat;
  Le32 feature_ro_compat;
  std::array<std::uint8_t, 16> uuid{};
  std::array<std::uint8_t, 16> volume_name{};
  std::array<std::uint8_t, 64> last_mounted{};
  Le32 algorithm_bitmap;
  std::uint8_t prealloc_blocks = 0;
  std::uint8_t prealloc_dir_blocks = 0;
  Le16 reserved_gdt_blocks;
  std::array<std::uint8_t, 16> journal_uuid{};
  Le32 journal_inode;
  Le32 journal_device;
  Le32 last_orphan;
  std::array<Le32, 4> hash_seed;
  std::uint8_t hash_version = 0;
  std::uint8_t journal_backup_type = 0;
  Le16 descriptor_size;
  Le32 default_mount_options;
  Le32 first_meta_bg;
  Le32 mkfs_time;
  std::array<std::uint8_t, 60> journal_backup{};  // the journal inode's block field, then its size
  Le32 journal_size_hi;
  Le32 journal_size_lo;
  Le32 blocks_count_hi;
  Le32 reserved_blocks_hi;
  Le32 free_blocks_hi;
  Le16 min_extra_isize;
  Le16 want_extra_isize;
  Le32 flags;
  std::array<std::uint8_t, 0x175 - 0x164> unused1{};
  std::uint8_t checksum_type = 0;
  std::array<std::uint8_t, 0x3fc - 0x176> unused2{};
  Le32 checksum;
};
static_assert(sizeof(SuperBlock) == 1024 && alignof(SuperBlock) == 1);
static_assert(offsetof(SuperBlock, uuid) == 0x68 && offsetof(SuperBlock, hash_seed) == 0xec);
static_assert(offsetof(SuperBlock, journal_backup) == 0x10c &&
              offsetof(SuperBlock, blocks_count_hi) == 0x150);
static_assert(offsetof(SuperBlock, flags) == 0x160 && offsetof(SuperBlock, checksum_type) == 0x175);

inline constexpr std::uint16_t kInodeUninit = 1, kBlockUninit = 2, kInodeZeroed = 4;
struct GroupDescriptor {
  Le32 block_bitmap_lo, inode_bitmap_lo, inode_table_lo;
  Le16 free_blocks_lo, free_inodes_lo, used_dirs_lo, flags;
  Le32 exclude_bitmap_lo;
  Le16 block_bitmap_csum_lo, inode_bitmap_csum_lo, unused_inodes_lo, checksum;
  Le32 block_bitmap_hi, inode_bitmap_hi, inode_table_hi;
  Le16 free_blocks_hi, free_inodes_hi, used_dirs_hi, unused_inodes_hi;
  Le32 exclude_bitmap_hi;
  Le16 block_bitmap_csum_hi, inode_bitmap_csum_hi;
  Le32 reserved;
};
static_assert(sizeof(GroupDescriptor) == 64 && offsetof(GroupDescriptor, checksum) == 0x1e);
inline constexpr std::uint32_t kDescriptorsPerBlock = kBlockSize / sizeof(GroupDescriptor);

inline constexpr std::uint32_t kInodeExtents = 0x80000;
struct Inode {
  Le16 mode, uid;
  Le32 size_lo, atime, ctime, mtime, dtime;
  Le16 gid, links;
  Le32 blocks_lo;  // in 512-byte units
  Le32 flags, osd1;
  std::array<std::uint8_t, 60> block{};
  Le32 generation, file_acl_lo, size_hi, fragment;
  Le16 blocks_hi, file_acl_hi, uid_hi, gid_hi, checksum_lo, reserved;
  Le16 extra_size, checksum_hi;
  Le32 ctime_extra, mtime_extra, atime_extra, crtime, crtime_extra, version_hi, project;
  std::array<std::uint8_t, 96> attributes{};
};
static_assert(sizeof(Inode) == kInodeSize && offsetof(Inode, checksum_lo) == 0x7c &&
              offsetof(Inode, extra_size) == 0x80);

inline constexpr std::uint16_t kExtentMagic = 0xf30a;
struct ExtentHeader {
  Le16 magic, entries, max, depth;
  Le32 generation;
};
struct Extent {
  Le32 logical;
  Le16 length, start_hi;
  Le32 start_lo;
};
inline constexpr std::uint16_t kExtentsInInode = 4;

struct DirEntry {
  Le32 inode;
  Le16 record_length;
  std::uint8_t name_length = 0;
  std::uint8_t file_type = 0;
};
inline constexpr std::uint8_t kTypeDirectory = 2;
struct DirTail {
  Le32 zero;
  Le16 record_length;
  std::uint8_t zero2 = 0;
  std::uint8_t file_type = 0;
  Le32 checksum;
};
inline constexpr std::uint8_t kTailFileType = 0xde;

struct JournalSuper {
  Be32 magic, block_type, block_sequence;
  Be32 block_size, max_length, first, sequence, start, error;
  Be32 feature_compat, feature_incompat, feature_ro_compat;
  std::array<std::uint8_t, 16> uuid{};
  Be32 users, dynamic_super, max_transaction, max_transaction_data;
};
inline constexpr std::uint32_t kJournalMagic = 0xc03b3998, kJournalSuperV2 = 4;

}  // namespace msb::oci::ext4
