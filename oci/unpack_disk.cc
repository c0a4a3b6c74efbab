// SPDX-License-Identifier: Apache-2.0
#include "oci/unpack_disk.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "base/file.h"
#include "base/wire.h"
#include "oci/digest.h"
#include "oci/disk_source.h"

namespace msb::oci {
namespace {

constexpr std::size_t kBlock = 4096;
using Block = std::array<std::uint8_t, kBlock>;

// Puts pieces of any length together to blocks, of which each that is not zero is hashed and written.
class BlockSink {
 public:
  // `out_fd` -1: only the id is wanted.
  BlockSink(int out_fd, std::uint64_t max_bytes) : out_fd_(out_fd), max_blocks_(max_bytes / kBlock) {}

  [[nodiscard]] Status take(std::uint64_t offset, ByteView piece) {
    while (!piece.empty()) {
      if (offset / kBlock != number_) MSB_TRY(flush());
      number_ = offset / kBlock;
      const std::size_t within = offset % kBlock;
      const std::size_t length = std::min(piece.size(), kBlock - within);
      std::memcpy(block_.data() + within, piece.data(), length);
      used_ = true;
      piece = piece.subspan(length);
      offset += length;
    }
    return {};
  }

  // Of a disk of `blocks` blocks; nothing may follow.
  [[nodiscard]] Result<std::string> finish(std::uint64_t blocks) {
    MSB_TRY(flush());
    hash_number(blocks);
    return hash_.finish_hex();
  }

 private:
  [[nodiscard]] Status flush() {
    static constexpr Block kZeros{};
    if (!used_) return {};
    used_ = false;
    if (std::memcmp(block_.data(), kZeros.data(), kBlock) == 0) return {};
    if (written_++ >= max_blocks_) {
      const std::uint64_t most = max_blocks_ * kBlock;
      return make_error(Errc::kLimit, "the disk holds more than %llu bytes",
                        static_cast<unsigned long long>(most));
    }
    hash_number(number_);
    hash_.update(block_);
    if (out_fd_ >= 0) MSB_TRY(pwrite_exact(out_fd_, block_, number_ * kBlock));
    block_ = kZeros;
    return {};
  }

  void hash_number(std::uint64_t number) {
    const Le64 wire(number);
    hash_.update(ByteView(reinterpret_cast<const std::uint8_t*>(&wire), sizeof wire));
  }

  int out_fd_;
  std::uint64_t max_blocks_;
  std::uint64_t written_ = 0;
  std::uint64_t number_ = 0;
  bool used_ = false;  // block_ has something of block number_
  Block block_{};      // zero where nothing was put yet
  Sha256Stream hash_;
};

Error no_root(const char* what) {
  return make_error(Errc::kUnsupported, "the disk image cannot be a root: %s", what);
}

std::uint32_t le32_at(const Block& block, std::size_t offset) {
  Le32 value;
  std::memcpy(&value, block.data() + offset, sizeof value);
  return value.get();
}
bool has(const Block& block, std::size_t offset, std::string_view text) {
  return std::memcmp(block.data() + offset, text.data(), text.size()) == 0;
}

// Which file system begins with this block. Offsets are those of the superblocks on disk: ext4 at 1024 (Linux
// Documentation/filesystems/ext4/super.rst), squashfs at 0; of others what is needed to name them.
Result<std::string> file_system_of(const Block& first) {
  constexpr std::size_t kExtMagic = 1024 + 0x38;
  constexpr std::size_t kExtIncompatible = 1024 + 0x60;
  constexpr std::uint32_t kExtNeedsRecovery = 4;
  if ((le32_at(first, kExtMagic) & 0xffff) == 0xef53) {
    if ((le32_at(first, kExtIncompatible) & kExtNeedsRecovery) != 0)
      return no_root(
          "its ext4 was not unmounted, and its journal cannot be replayed on a disk that is only read; "
          "e2fsck -f mends it");
    return std::string("ext4");
  }
  if (has(first, 0, "hsqs")) return std::string("squashfs");
  if (has(first, 512, "EFI PART") || (first[510] == 0x55 && first[511] == 0xaa))
    return no_root(
        "it has a partition table; take the root's partition out of it: sfdisk -l -o "
        "Device,Start,Sectors,Type "
        "FILE (of a qcow2 after qemu-img convert -O raw), then dd if=FILE of=root.img bs=512 skip=START "
        "count=SECTORS conv=sparse");
  if (has(first, 0, "XFSB"))
    return no_root(
        "its file system is XFS, which the guest's kernel has not; ext2 to ext4 and squashfs it has");
  return no_root("it begins with no file system that guests know: ext2, ext3, ext4, squashfs");
}

Result<std::string> copy(DiskSource& disk, int out_fd, std::uint64_t max_bytes) {
  BlockSink blocks(out_fd, max_bytes);
  MSB_TRY(disk.read([&blocks](std::uint64_t offset, ByteView piece) { return blocks.take(offset, piece); }));
  return blocks.finish((disk.size() + kBlock - 1) / kBlock);
}

}  // namespace

Result<DiskSummary> unpack_disk(int fd, int out_fd, const Limits& limits) {
  MSB_ASSIGN(const auto disk, open_disk(fd, limits));
  if (disk->size() < kBlock) return no_root("it is smaller than a block");
  DiskSummary summary;
  MSB_ASSIGN(summary.id_hex, copy(*disk, out_fd, limits.max_layer_bytes));
  summary.bytes = (disk->size() + kBlock - 1) / kBlock * kBlock;
  if (::ftruncate(out_fd, static_cast<off_t>(summary.bytes)) != 0)
    return sys_error("set the length of a disk");
  Block first{};
  MSB_TRY(pread_exact(out_fd, first, 0));
  MSB_ASSIGN(summary.file_system, file_system_of(first));
  return summary;
}

Result<std::string> disk_id(int fd, const Limits& limits) {
  MSB_ASSIGN(const auto disk, open_raw_disk(fd, limits));
  return copy(*disk, -1, limits.max_layer_bytes);
}

}  // namespace msb::oci
