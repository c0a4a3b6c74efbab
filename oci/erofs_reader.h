// SPDX-License-Identifier: Apache-2.0
// Reader: the file tree in an EROFS image that erofs_writer.h made, given as bytes in memory. It reads what
// the writer writes and refuses the rest; every position is checked, for a damaged store must not crash
// anyone.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "oci/erofs_format.h"

namespace msb::oci::erofs {

class Reader {
 public:
  struct Info {
    std::uint64_t nid = 0;
    std::uint64_t size = 0;
    std::int64_t mtime_s = 0;
    std::uint32_t mtime_ns = 0;
    std::uint32_t uid = 0, gid = 0, nlink = 0;
    std::uint32_t data = 0;  // first block, device number, or chunk format
    std::uint16_t mode = 0;
    Layout layout = Layout::kPlain;
    std::uint64_t xattr_offset = 0;  // of the entries, in bytes from the image's start
    std::uint32_t xattr_bytes = 0;
    std::uint64_t body_end = 0;  // where inline data or chunk addresses begin
  };

  // `image` is borrowed. kCorrupt if the superblock is not one of ours.
  [[nodiscard]] static Result<Reader> open(ByteView image);

  [[nodiscard]] std::uint64_t root() const { return root_nid_; }
  [[nodiscard]] const SuperBlock& super() const { return super_; }
  [[nodiscard]] Result<Info> inode(std::uint64_t nid) const;
  // Entries of a directory in stored order, without "." and "..". Stops at the first error of `visit`.
  [[nodiscard]] Status list(
      const Info& dir, const std::function<Status(std::string_view name, std::uint64_t nid)>& visit) const;
  [[nodiscard]] Result<std::string_view> link_target(const Info& link) const;
  // The entries as encode_xattrs() made them; empty if there are none.
  [[nodiscard]] Result<std::string_view> xattrs(const Info& inode) const;
  // Addresses of a chunked file; kHole where nothing is stored.
  [[nodiscard]] Result<std::vector<std::uint32_t>> chunks(const Info& file) const;
  [[nodiscard]] static unsigned chunk_bits(const Info& file) { return kBlockBits + (file.data & 31); }
  // `length` bytes of a file, directory or link from `offset` on, which must lie within one block.
  [[nodiscard]] Result<ByteView> data(const Info& inode, std::uint64_t offset, std::size_t length) const;

 private:
  Reader(ByteView image, const SuperBlock& super);
  [[nodiscard]] Result<ByteView> at(std::uint64_t offset, std::uint64_t length) const;
  ByteView image_;
  SuperBlock super_;
  std::uint64_t root_nid_;
  std::uint64_t meta_offset_;
};

}  // namespace msb::oci::erofs
