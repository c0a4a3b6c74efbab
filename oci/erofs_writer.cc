// SPDX-License-Identifier: Apache-2.0
#include "oci/erofs_writer.h"

#include <sys/stat.h>

#include <algorithm>
#include <cstring>
#include <optional>

#include "base/file.h"
#include "oci/crc32c.h"

namespace msb::oci::erofs {
namespace {

constexpr std::uint8_t kTailInBlock = 64;  // Inode::flags, ours: the last part did not fit behind the inode
constexpr std::size_t kStreamBuffer = 256 * 1024;
constexpr std::uint64_t kFirstInode =
    kSlotSize;  // nid 0 stays unused: inode number 0 means "deleted" to readdir

std::uint8_t file_type(std::uint16_t mode) {
  switch (mode & S_IFMT) {  // the generic FT_* numbers
    case S_IFREG:
      return 1;
    case S_IFDIR:
      return 2;
    case S_IFCHR:
      return 3;
    case S_IFBLK:
      return 4;
    case S_IFIFO:
      return 5;
    case S_IFSOCK:
      return 6;
    case S_IFLNK:
      return 7;
    default:
      return 0;
  }
}

std::uint64_t round_up(std::uint64_t value, std::uint64_t unit) { return (value + unit - 1) / unit * unit; }

// Entries of a directory in name order, "." and ".." sorted in among the children.
class DirCursor {
 public:
  DirCursor(const Tree& tree, NodeId dir) : tree_(tree), dir_(dir), next_(tree.node(dir).first_child) {}
  struct Entry {
    std::string_view name;
    InodeId inode;
  };
  std::optional<Entry> next() {
    const bool have = next_ != kNone;
    if (dots_ < 2) {
      const std::string_view dot = dots_ == 0 ? "." : "..";
      if (!have || dot < tree_.name(next_)) {
        const NodeId target = dots_ == 0 || dir_ == kRootNode ? dir_ : tree_.node(dir_).parent;
        ++dots_;
        return Entry{dot, tree_.node(target).inode};
      }
    }
    if (!have) return std::nullopt;
    const Entry entry{tree_.name(next_), tree_.node(next_).inode};
    next_ = tree_.node(next_).next_sibling;
    return entry;
  }

 private:
  const Tree& tree_;
  NodeId dir_;
  NodeId next_;
  int dots_ = 0;
};

struct DirSize {
  std::uint64_t full_blocks = 0;
  std::uint64_t tail = 0;
};

DirSize measure(const Tree& tree, NodeId dir) {
  DirSize size;
  DirCursor cursor(tree, dir);
  while (const auto entry = cursor.next()) {
    const std::uint64_t need = sizeof(Dirent) + entry->name.size();
    if (size.tail + need > kBlockSize) {
      ++size.full_blocks;
      size.tail = 0;
    }
    size.tail += need;
  }
  return size;
}

// Visits directories depth first and, at each, all children before any grandchild. `visit(node, parent)` is
// called once per name; the caller recognises inodes met before.
template <typename OnDir, typename OnChild>
Status walk(Tree& tree, OnDir on_dir, OnChild on_child) {
  std::vector<NodeId> stack = {kRootNode};
  std::vector<NodeId> subdirs;
  while (!stack.empty()) {
    const NodeId dir = stack.back();
    stack.pop_back();
    MSB_TRY(on_dir(dir));
    subdirs.clear();
    for (NodeId id = tree.node(dir).first_child; id != kNone; id = tree.node(id).next_sibling) {
      MSB_TRY(on_child(id));
      if (tree.inode_of(id).is_dir()) subdirs.push_back(id);
    }
    stack.insert(stack.end(), subdirs.rbegin(), subdirs.rend());
  }
  return {};
}

}  // namespace

// Buffered writing forward from an offset.
class Writer::Stream {
 public:
  Stream(int fd, std::uint64_t offset) : fd_(fd), offset_(offset) { buffer_.reserve(kStreamBuffer); }
  [[nodiscard]] Status put(ByteView bytes) {
    written_ += bytes.size();
    while (!bytes.empty()) {
      const std::size_t take = std::min(bytes.size(), kStreamBuffer - buffer_.size());
      buffer_.insert(buffer_.end(), bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(take));
      bytes = bytes.subspan(take);
      if (buffer_.size() == kStreamBuffer) MSB_TRY(flush());
    }
    return {};
  }
  template <WireStruct T>
  [[nodiscard]] Status put(const T& value) {
    return put(ByteView(reinterpret_cast<const std::uint8_t*>(&value), sizeof value));
  }
  [[nodiscard]] Status zeros_to(std::uint64_t position) {
    static constexpr std::array<std::uint8_t, kBlockSize> kZeros{};
    while (written_ < position) {
      MSB_TRY(put(ByteView(kZeros).first(
          static_cast<std::size_t>(std::min<std::uint64_t>(kZeros.size(), position - written_)))));
    }
    return {};
  }
  [[nodiscard]] Status flush() {
    MSB_TRY(pwrite_exact(fd_, buffer_, offset_));
    offset_ += buffer_.size();
    buffer_.clear();
    return {};
  }
  [[nodiscard]] std::uint64_t written() const { return written_; }

 private:
  int fd_;
  std::uint64_t offset_;
  std::uint64_t written_ = 0;
  Bytes buffer_;
};

std::uint64_t Writer::xattr_bytes(const Inode& inode) const {
  return inode.xattrs == kNone ? 0 : sizeof(XattrHeader) + tree_.xattrs(inode.xattrs).size();
}

// Finds the place of one inode: `body` bytes always follow it, and `tail` bytes follow those if they can stay
// within one block.
Status Writer::place(InodeId id, std::uint64_t tail, std::uint64_t body) {
  Inode& inode = tree_.inode(id);
  std::uint64_t at = inode_end_;
  if (tail > 0) {
    const auto fits = [&](std::uint64_t start) {
      const std::uint64_t from = (start + sizeof(ExtendedInode) + body) % kBlockSize;
      return tail <= kBlockSize - from;
    };
    if (!fits(at)) {
      // Move up so that the tail begins at the next block, or give it a block of its own.
      const std::uint64_t next = round_up(at + sizeof(ExtendedInode) + body, kBlockSize);
      const std::uint64_t moved = round_up(next - sizeof(ExtendedInode) - body, kSlotSize);
      const bool near = tail <= kBlockSize / 2;
      if (near && fits(moved)) {
        at = moved;
      } else {
        inode.flags |= kTailInBlock;
        ++data_blocks_;
      }
    }
  }
  const bool inlined = tail > 0 && (inode.flags & kTailInBlock) == 0;
  inode_end_ = round_up(at + sizeof(ExtendedInode) + body + (inlined ? tail : 0), kSlotSize);
  const std::uint64_t nid = at / kSlotSize;
  if (nid >= kNone) return make_error(Errc::kLimit, "the metadata of the file tree is larger than 128 GiB");
  inode.nid = static_cast<std::uint32_t>(nid);
  ++inodes_;
  return {};
}

Status Writer::plan() {
  for (std::size_t i = 0; i < tree_.inode_count(); ++i) {
    Inode& inode = tree_.inode(static_cast<InodeId>(i));
    inode.nid = 0;
    inode.nlink = 0;
    inode.flags &= static_cast<std::uint8_t>(~kTailInBlock);
  }
  inode_end_ = kFirstInode;
  inode_blocks_ = data_blocks_ = 0;
  inodes_ = 0;
  chunked_ = false;
  MSB_TRY(place_tree());
  const std::uint64_t blocks = round_up(inode_end_, kBlockSize) / kBlockSize;
  if (blocks >= kNone - data_blocks_)
    return make_error(Errc::kLimit, "the metadata of the file tree takes too many blocks");
  inode_blocks_ = static_cast<std::uint32_t>(blocks);
  return {};
}

Status Writer::place_tree() {
  const auto place_node = [this](NodeId node) -> Status {
    const InodeId id = tree_.node(node).inode;
    Inode& inode = tree_.inode(id);
    if (inode.is_dir()) {
      inode.nlink = 2;
      if (node != kRootNode) ++tree_.inode_of(tree_.node(node).parent).nlink;
      tree_.sort_children(node);
      const DirSize size = measure(tree_, node);
      inode.size = size.full_blocks * kBlockSize + size.tail;
      data_blocks_ += static_cast<std::uint32_t>(size.full_blocks);
      return place(id, size.tail, xattr_bytes(inode));
    }
    ++inode.nlink;
    if (inode.nid != 0) return {};
    std::uint64_t body = xattr_bytes(inode);
    if (inode.is_symlink()) return place(id, inode.size, body);
    if ((inode.flags & kChunked) != 0) {
      chunked_ = true;
      body += tree_.chunk_map(inode.data).blocks.size() * sizeof(Le32);
    }
    return place(id, 0, body);
  };
  MSB_TRY(place_node(kRootNode));
  return walk(
      tree_, [](NodeId) { return Status{}; }, place_node);
}

Status Writer::emit_directory_blocks(NodeId dir, Stream& blocks, Bytes& tail) const {
  std::vector<DirCursor::Entry> pending;
  std::size_t used = 0;
  const auto render = [&](Bytes& out) {
    std::size_t name_at = pending.size() * sizeof(Dirent);
    ByteWriter writer;
    for (const auto& entry : pending) {
      const Inode& inode = tree_.inode(entry.inode);
      Dirent dirent;
      dirent.nid = inode.nid;
      dirent.name_offset = static_cast<std::uint16_t>(name_at);
      dirent.file_type = file_type(inode.mode);
      writer.put(dirent);
      name_at += entry.name.size();
    }
    for (const auto& entry : pending) writer.put_text(entry.name);
    out = std::move(writer).take();
  };
  DirCursor cursor(tree_, dir);
  while (const auto entry = cursor.next()) {
    const std::size_t need = sizeof(Dirent) + entry->name.size();
    if (used + need > kBlockSize) {
      render(tail);
      tail.resize(kBlockSize);
      MSB_TRY(blocks.put(tail));
      pending.clear();
      used = 0;
    }
    pending.push_back(*entry);
    used += need;
  }
  render(tail);
  return {};
}

Status Writer::emit(InodeId id, NodeId node, Stream& inodes, Stream& blocks, const Disk& disk) {
  const Inode& inode = tree_.inode(id);
  MSB_TRY(inodes.zeros_to(std::uint64_t{inode.nid} * kSlotSize));
  const std::uint32_t next_block =
      disk.meta_block + inode_blocks_ + static_cast<std::uint32_t>(blocks.written() / kBlockSize);
  Layout layout = Layout::kPlain;
  std::uint32_t data = 0;
  Bytes tail;
  if (inode.is_dir() || inode.is_symlink()) {
    if (inode.is_dir()) {
      MSB_TRY(emit_directory_blocks(node, blocks, tail));
    } else {
      const ByteView target = as_bytes(tree_.text(inode.data));
      tail.assign(target.begin(), target.end());
    }
    data = next_block;
    if ((inode.flags & kTailInBlock) != 0) {
      tail.resize(kBlockSize);
      MSB_TRY(blocks.put(tail));
      tail.clear();
    } else {
      layout = Layout::kInline;
    }
  } else if (inode.is_device()) {
    data = inode.data;
  } else if ((inode.flags & kChunked) != 0) {
    layout = Layout::kChunked;
    data = tree_.chunk_map(inode.data).chunk_bits - kBlockBits;
  } else if (inode.is_regular() && inode.size > 0) {
    data = disk.layer_base[inode.layer] + inode.data;
  } else if (inode.is_regular()) {
    data = kHole;
  }
  ExtendedInode raw;
  raw.format = static_cast<std::uint16_t>(kFormatExtended | static_cast<unsigned>(layout) << 1);
  raw.mode = inode.mode;
  raw.size = inode.size;
  raw.data = data;
  raw.ino = inode.nid;
  raw.uid = inode.uid;
  raw.gid = inode.gid;
  raw.mtime = static_cast<std::uint64_t>(inode.mtime_s);
  raw.mtime_ns = inode.mtime_ns;
  raw.nlink = inode.nlink;
  if (inode.xattrs != kNone) {
    raw.xattr_count = static_cast<std::uint16_t>(1 + tree_.xattrs(inode.xattrs).size() / kXattrAlign);
  }
  MSB_TRY(inodes.put(raw));
  if (inode.xattrs != kNone) {
    MSB_TRY(inodes.put(XattrHeader{}));
    MSB_TRY(inodes.put(as_bytes(tree_.xattrs(inode.xattrs))));
  }
  if (layout == Layout::kChunked) {
    for (const std::uint32_t block : tree_.chunk_map(inode.data).blocks) {
      MSB_TRY(inodes.put(Le32(block == kNone ? kHole : disk.layer_base[inode.layer] + block)));
    }
  }
  return inodes.put(tail);
}

Status Writer::write(int fd, std::uint64_t offset, const Disk& disk) {
  Stream inodes(fd, offset);
  Stream blocks(fd, offset + std::uint64_t{inode_blocks_} * kBlockSize);
  const auto emit_node = [&](NodeId node) -> Status {
    const InodeId id = tree_.node(node).inode;
    // Places were given in this same order, so an inode that lies behind us was written under another name.
    if (std::uint64_t{tree_.inode(id).nid} * kSlotSize < inodes.written()) return {};
    return emit(id, node, inodes, blocks, disk);
  };
  MSB_TRY(emit_node(kRootNode));
  MSB_TRY(walk(
      tree_, [](NodeId) { return Status{}; }, emit_node));
  MSB_TRY(inodes.zeros_to(std::uint64_t{inode_blocks_} * kBlockSize));
  MSB_TRY(inodes.flush());
  MSB_CHECK(blocks.written() == std::uint64_t{data_blocks_} * kBlockSize);
  MSB_TRY(blocks.flush());

  SuperBlock super;
  super.magic = kMagic;
  super.feature_compat = kCompatSuperChecksum | kCompatMtime;
  super.block_bits = kBlockBits;
  super.root_nid = static_cast<std::uint16_t>(tree_.inode_of(kRootNode).nid);
  super.inodes = inodes_;
  super.blocks = disk.total_blocks;
  super.meta_block = disk.meta_block;
  super.uuid = disk.uuid;
  super.feature_incompat = chunked_ ? kIncompatChunkedFile : 0;
  Bytes block(kBlockSize);
  std::memcpy(block.data() + kSuperOffset, &super, sizeof super);
  super.checksum = crc32c(~std::uint32_t{0}, ByteView(block).subspan(kSuperOffset));
  std::memcpy(block.data() + kSuperOffset, &super, sizeof super);
  return pwrite_exact(fd, block, 0);
}

}  // namespace msb::oci::erofs
