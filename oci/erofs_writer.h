// SPDX-License-Identifier: Apache-2.0
// ErofsWriter: the metadata of a file tree as EROFS. File contents lie elsewhere on the same disk, put there
// before (a layer's own blob) or by others (the layers under an image).
//
// Theory of operation. Block 0 is the superblock's alone; the metadata area begins at a block the caller
// names. plan() walks the tree once: it sorts directories, gives every inode its place, and so knows how many
// blocks the area takes before any address on the disk has to be known. write() walks again in the same order
// and writes two streams forward: inodes (with attributes, link targets, last parts of directories) and,
// behind them, the full directory blocks. Children of one directory stand together. The root is the first
// inode.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "base/result.h"
#include "oci/erofs_format.h"
#include "oci/tree.h"

namespace msb::oci::erofs {

class Writer {
 public:
  // `tree` is borrowed and its nid and nlink fields are filled in; it must not change until write() is done.
  explicit Writer(Tree& tree) : tree_(tree) {}

  // Must be called first. kLimit when the metadata outgrows what nids can number.
  [[nodiscard]] Status plan();
  // Size of the metadata area; valid after plan().
  [[nodiscard]] std::uint32_t metadata_blocks() const { return inode_blocks_ + data_blocks_; }
  [[nodiscard]] std::uint64_t inode_count() const { return inodes_; }

  struct Disk {
    std::uint32_t meta_block = 1;    // where the metadata area lies on the disk
    std::uint32_t total_blocks = 0;  // of the whole disk
    // Block on the disk at which the block numbers of each layer count from.
    std::span<const std::uint32_t> layer_base;
    std::array<std::uint8_t, 16> uuid{};
  };
  // Writes the area to `fd` from byte `offset` on and the superblock's block to byte 0.
  [[nodiscard]] Status write(int fd, std::uint64_t offset, const Disk& disk);

 private:
  class Stream;
  [[nodiscard]] Status place(InodeId id, std::uint64_t tail_bytes, std::uint64_t body_bytes);
  [[nodiscard]] Status place_tree();
  [[nodiscard]] Status emit(InodeId id, NodeId dir, Stream& inodes, Stream& blocks, const Disk& disk);
  [[nodiscard]] Status emit_directory_blocks(NodeId dir, Stream& blocks, Bytes& tail) const;
  [[nodiscard]] std::uint64_t xattr_bytes(const Inode& inode) const;

  Tree& tree_;
  std::uint64_t inode_end_ = 0;  // bytes of the inode area so far
  std::uint32_t inode_blocks_ = 0;
  std::uint32_t data_blocks_ = 0;
  std::uint64_t inodes_ = 0;
  bool chunked_ = false;
};

}  // namespace msb::oci::erofs
