// SPDX-License-Identifier: Apache-2.0
#include "oci/erofs_reader.h"

#include <sys/stat.h>

#include <algorithm>
#include <cstring>

#include "oci/crc32c.h"
#include "oci/limits.h"

namespace msb::oci::erofs {
namespace {

Error corrupt(const char* what) { return make_error(Errc::kCorrupt, "EROFS image: %s", what); }

}  // namespace

Reader::Reader(ByteView image, const SuperBlock& super)
    : image_(image),
      super_(super),
      root_nid_(super.root_nid.get()),
      meta_offset_(std::uint64_t{super.meta_block.get()} * kBlockSize) {}

Result<Reader> Reader::open(ByteView image) {
  if (image.size() < kBlockSize) return corrupt("it is shorter than a block");
  SuperBlock super;
  std::memcpy(&super, image.data() + kSuperOffset, sizeof super);
  if (super.magic.get() != kMagic) return corrupt("no superblock");
  if (super.block_bits != kBlockBits) return corrupt("another block size");
  if ((super.feature_incompat.get() & ~kIncompatChunkedFile) != 0)
    return corrupt("features that are not ours");
  Bytes block(image.begin() + kSuperOffset, image.begin() + kBlockSize);
  std::memset(block.data() + offsetof(SuperBlock, checksum), 0, sizeof super.checksum);
  if (crc32c(~std::uint32_t{0}, block) != super.checksum.get())
    return corrupt("the superblock's checksum is wrong");
  return Reader(image, super);
}

Result<ByteView> Reader::at(std::uint64_t offset, std::uint64_t length) const {
  if (offset > image_.size() || length > image_.size() - offset) return corrupt("a position past its end");
  return image_.subspan(static_cast<std::size_t>(offset), static_cast<std::size_t>(length));
}

Result<Reader::Info> Reader::inode(std::uint64_t nid) const {
  if (nid > image_.size() / kSlotSize) return corrupt("an inode past its end");
  const std::uint64_t offset = meta_offset_ + nid * kSlotSize;
  MSB_ASSIGN(const ByteView bytes, at(offset, sizeof(ExtendedInode)));
  ExtendedInode raw;
  std::memcpy(&raw, bytes.data(), sizeof raw);
  const std::uint16_t format = raw.format.get();
  const unsigned layout = format >> 1;
  if ((format & 1) != kFormatExtended || (layout != 0 && layout != 2 && layout != 4))
    return corrupt("an inode of unknown format");
  Info info;
  info.nid = nid;
  info.layout = static_cast<Layout>(layout);
  info.size = raw.size.get();
  info.mtime_s = static_cast<std::int64_t>(raw.mtime.get());
  info.mtime_ns = raw.mtime_ns.get();
  info.uid = raw.uid.get();
  info.gid = raw.gid.get();
  info.nlink = raw.nlink.get();
  info.data = raw.data.get();
  info.mode = raw.mode.get();
  info.body_end = offset + sizeof raw;
  if (const std::uint16_t count = raw.xattr_count.get(); count != 0) {
    info.xattr_offset = info.body_end + sizeof(XattrHeader);
    info.xattr_bytes = static_cast<std::uint32_t>((count - 1) * kXattrAlign);
    info.body_end = info.xattr_offset + info.xattr_bytes;
  }
  return info;
}

Result<std::string_view> Reader::xattrs(const Info& info) const {
  MSB_ASSIGN(const ByteView bytes, at(info.xattr_offset, info.xattr_bytes));
  return as_text(bytes);
}

Result<ByteView> Reader::data(const Info& info, std::uint64_t offset, std::size_t length) const {
  if (offset > info.size || length > info.size - offset) return corrupt("a read past a file's end");
  if (length == 0) return ByteView{};
  const std::uint64_t last = info.size / kBlockSize * kBlockSize;
  if (info.layout == Layout::kInline && offset >= last) return at(info.body_end + (offset - last), length);
  if (info.layout == Layout::kChunked) return corrupt("a chunked file where none can be");
  return at(std::uint64_t{info.data} * kBlockSize + offset, length);
}

Status Reader::list(const Info& dir,
                    const std::function<Status(std::string_view, std::uint64_t)>& visit) const {
  if (!S_ISDIR(dir.mode) || dir.layout == Layout::kChunked)
    return corrupt("a listing of what is not a directory");
  if (dir.size > image_.size()) return corrupt("a directory larger than the image");
  for (std::uint64_t offset = 0; offset < dir.size; offset += kBlockSize) {
    const auto length = static_cast<std::size_t>(std::min<std::uint64_t>(kBlockSize, dir.size - offset));
    MSB_ASSIGN(const ByteView block, data(dir, offset, length));
    if (length < sizeof(Dirent)) return corrupt("a short directory block");
    Dirent entry;
    std::memcpy(&entry, block.data(), sizeof entry);
    const std::size_t names = entry.name_offset.get();
    if (names < sizeof(Dirent) || names % sizeof(Dirent) != 0 || names > length)
      return corrupt("a damaged directory block");
    const std::size_t count = names / sizeof(Dirent);
    for (std::size_t i = 0; i < count; ++i) {
      std::memcpy(&entry, block.data() + i * sizeof(Dirent), sizeof entry);
      std::size_t end = length;
      if (i + 1 < count) {
        Dirent next;
        std::memcpy(&next, block.data() + (i + 1) * sizeof(Dirent), sizeof next);
        end = next.name_offset.get();
      }
      const std::size_t start = entry.name_offset.get();
      if (start < names || end > length || start > end) return corrupt("a directory entry out of its block");
      std::string_view name = as_text(block.subspan(start, end - start));
      name = name.substr(0, name.find('\0'));  // the last name of a full block is followed by zeros
      if (name.empty() || name.size() > kMaxNameBytes || name.find('/') != std::string_view::npos)
        return corrupt("a name that cannot be");
      if (name == "." || name == "..") continue;
      MSB_TRY(visit(name, entry.nid.get()));
    }
  }
  return {};
}

Result<std::string_view> Reader::link_target(const Info& link) const {
  if (link.size == 0 || link.size > kMaxSymlinkBytes) return corrupt("a symbolic link of impossible length");
  MSB_ASSIGN(const ByteView bytes, data(link, 0, static_cast<std::size_t>(link.size)));
  return as_text(bytes);
}

Result<std::vector<std::uint32_t>> Reader::chunks(const Info& file) const {
  if (file.layout != Layout::kChunked || (file.data & ~31U) != 0) return corrupt("no chunk map");
  const unsigned bits = chunk_bits(file);
  const std::uint64_t count = file.size == 0 ? 0 : ((file.size - 1) >> bits) + 1;
  if (count > image_.size() / sizeof(Le32)) return corrupt("a chunk map larger than the image");
  MSB_ASSIGN(const ByteView bytes, at(file.body_end, count * sizeof(Le32)));
  std::vector<std::uint32_t> list(static_cast<std::size_t>(count));
  if (!bytes.empty()) std::memcpy(list.data(), bytes.data(), bytes.size());
  return list;
}

}  // namespace msb::oci::erofs
