// SPDX-License-Identifier: Apache-2.0
// EROFS as it lies on disk; of it what we write: 4 KiB blocks, extended inodes, no compression, one device.
// Source: Linux Documentation/filesystems/erofs.rst and the EROFS core on-disk format document. All
// little-endian.
//
// Numbers of inodes (nid) are positions: inode n lies 32 n bytes into the metadata area. An inode is followed
// by its extended attributes and, if its layout is inline, by the last part of its data, which must not cross
// a block.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "base/wire.h"

namespace msb::oci::erofs {

inline constexpr std::uint32_t kMagic = 0xe0f5e1e2;
inline constexpr std::size_t kSuperOffset = 1024;
inline constexpr unsigned kBlockBits = 12;
inline constexpr std::size_t kBlockSize = std::size_t{1} << kBlockBits;
inline constexpr std::size_t kSlotSize = 32;        // unit of nid
inline constexpr std::uint32_t kHole = 0xffffffff;  // block address of what is not stored

inline constexpr std::uint32_t kCompatSuperChecksum = 1;
inline constexpr std::uint32_t kCompatMtime = 2;  // inode times are modification times
inline constexpr std::uint32_t kIncompatChunkedFile = 4;

struct SuperBlock {
  Le32 magic;
  Le32 checksum;  // crc32c, seed ~0, over the block from kSuperOffset on with this field zero
  Le32 feature_compat;
  std::uint8_t block_bits = 0;
  std::uint8_t extension_slots = 0;
  Le16 root_nid;
  Le64 inodes;
  Le64 build_time;
  Le32 build_time_ns;
  Le32 blocks;
  Le32 meta_block;
  Le32 xattr_block;  // shared attributes are numbered from here in units of 4 bytes
  std::array<std::uint8_t, 16> uuid{};
  std::array<std::uint8_t, 16> volume_name{};
  Le32 feature_incompat;
  Le16 compression_algorithms;
  Le16 extra_devices;
  Le16 device_table_slot;
  std::uint8_t dir_block_bits = 0;
  std::uint8_t xattr_prefix_count = 0;
  Le32 xattr_prefix_start;
  Le64 packed_nid;
  std::uint8_t xattr_filter = 0;
  std::array<std::uint8_t, 23> reserved{};
};
static_assert(sizeof(SuperBlock) == 128 && alignof(SuperBlock) == 1);

enum class Layout : std::uint8_t { kPlain = 0, kInline = 2, kChunked = 4 };

struct ExtendedInode {
  Le16 format;  // bit 0: extended; bits 1-3: layout
  Le16 xattr_count;
  Le16 mode;
  Le16 reserved;
  Le64 size;
  Le32 data;  // first block, device number, or chunk format
  Le32 ino;
  Le32 uid;
  Le32 gid;
  Le64 mtime;
  Le32 mtime_ns;
  Le32 nlink;
  std::array<std::uint8_t, 16> reserved2{};
};
static_assert(sizeof(ExtendedInode) == 64 && alignof(ExtendedInode) == 1);
inline constexpr std::uint16_t kFormatExtended = 1;

// Chunk format: bits 0-4: log2(chunk size) - kBlockBits; a block address of 4 bytes for each chunk follows
// the inode and its attributes.
inline constexpr unsigned kMaxChunkShift = 31;

struct Dirent {
  Le64 nid;
  Le16 name_offset;  // in its directory block; the first entry's tells how many entries the block has
  std::uint8_t file_type = 0;
  std::uint8_t reserved = 0;
};
static_assert(sizeof(Dirent) == 12 && alignof(Dirent) == 1);

// i_xattr_count counts the header as one and each further 4 bytes as one.
struct XattrHeader {
  Le32 name_filter;
  std::uint8_t shared_count = 0;
  std::array<std::uint8_t, 7> reserved{};
};
static_assert(sizeof(XattrHeader) == 12);
struct XattrEntry {
  std::uint8_t name_length = 0;
  std::uint8_t prefix = 0;
  Le16 value_size;
};
static_assert(sizeof(XattrEntry) == 4);
inline constexpr std::size_t kXattrAlign = 4;
inline constexpr std::size_t kMaxXattrBody = (0xffff - 1) * kXattrAlign;  // all entries of one inode

}  // namespace msb::oci::erofs
