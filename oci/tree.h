// SPDX-License-Identifier: Apache-2.0
// Tree: a file tree in memory, compact enough for millions of entries. Built from hostile tar entries or from
// layers, never from or onto host paths.
//
// Nodes are names in directories; inodes are what names point to, so hard links are two nodes with one inode.
// Both are indices into chunked arrays. Children are found through one hash table over (parent, name) and
// listed through a sibling chain. A removed node stays in its parent's chain, dead, and is revived when the
// name comes back; what hung below it is forgotten entirely, so every node is walked at most once per time it
// is created.
#pragma once

#include <cstdint>
#include <new>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "oci/limits.h"
#include "oci/scratch.h"

namespace msb::oci {

// A vector that grows by fixed chunks of scratch memory: no element moves, and no copy doubles the memory at
// the worst moment.
template <typename T>
class ChunkedVector {
 public:
  static constexpr std::size_t kChunk = 8192;  // elements; whole pages, whatever the element
  static_assert(std::is_trivially_copyable_v<T> && std::is_trivially_destructible_v<T>);

  [[nodiscard]] std::size_t size() const { return size_; }
  T& operator[](std::size_t i) { return at(i); }
  const T& operator[](std::size_t i) const { return at(i); }
  [[nodiscard]] Status push_back(const T& value, Scratch& scratch) {
    if (size_ == chunks_.size() * kChunk) {
      MSB_ASSIGN(ScratchBlock chunk, scratch.allocate(kChunk * sizeof(T)));
      chunks_.push_back(std::move(chunk));
    }
    ::new (&at(size_)) T(value);
    ++size_;
    return {};
  }

 private:
  [[nodiscard]] T& at(std::size_t i) const { return static_cast<T*>(chunks_[i / kChunk].data())[i % kChunk]; }
  std::vector<ScratchBlock> chunks_;
  std::size_t size_ = 0;
};

using NodeId = std::uint32_t;
using InodeId = std::uint32_t;
using TextId = std::uint32_t;
inline constexpr std::uint32_t kNone = 0xffffffff;
inline constexpr NodeId kRootNode = 0;

// What a name means beyond the file itself; how one layer speaks about those below it.
enum InodeFlag : std::uint8_t {
  kImplicitDir =
      1,  // a directory no entry described: it lends its name only, an existing one keeps its attributes
  kOpaque = 2,      // a directory that hides what lower layers have at its place
  kWhiteout = 4,    // removes what lower layers have at its place
  kLinkByPath = 8,  // a hard link to a path that this layer does not hold; data is the target's TextId
  kChunked = 16,    // a sparse file; data is an index into chunk maps
};

struct Inode {
  std::uint64_t size = 0;  // bytes; for symbolic links the length of the target
  std::int64_t mtime_s = 0;
  std::uint32_t mtime_ns = 0;
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  std::uint32_t data = kNone;    // file: first block in its layer; device: rdev as in the inode; link: TextId
  std::uint32_t xattrs = kNone;  // index of a set, or kNone
  std::uint32_t nid = 0;         // where the writer put it (32-byte units); 0 before
  std::uint32_t nlink = 0;       // counted by the writer
  std::uint16_t mode = 0;        // type and permission bits as in st_mode
  std::uint16_t layer = 0;       // whose data blocks `data` counts in

  std::uint8_t flags = 0;
  [[nodiscard]] bool is_dir() const;
  [[nodiscard]] bool is_regular() const;
  [[nodiscard]] bool is_symlink() const;
  [[nodiscard]] bool is_device() const;
};

struct Node {
  NodeId parent = kNone;
  NodeId first_child = kNone;
  NodeId next_sibling = kNone;
  TextId name = kNone;
  InodeId inode = kNone;  // kNone: dead
};

// Blocks of a sparse file: chunk i lies at block blocks[i] of its layer, or is a hole (kNone).
struct ChunkMap {
  std::uint8_t chunk_bits = 12;  // log2 of the chunk size in bytes
  std::vector<std::uint32_t> blocks;
};

class Tree {
 public:
  // Begins with an empty root directory (mode 0755, root:root), flagged kImplicitDir. A tree that outgrows
  // the plain memory of scratch.h goes on in the file `scratch_fd` (borrowed, empty; -1: in memory).
  explicit Tree(const Limits& limits, int scratch_fd = -1);

  [[nodiscard]] const Limits& limits() const { return limits_; }
  [[nodiscard]] Node& node(NodeId id) { return nodes_[id]; }
  [[nodiscard]] const Node& node(NodeId id) const { return nodes_[id]; }
  [[nodiscard]] Inode& inode(InodeId id) { return inodes_[id]; }
  [[nodiscard]] const Inode& inode(InodeId id) const { return inodes_[id]; }
  [[nodiscard]] Inode& inode_of(NodeId id) { return inodes_[nodes_[id].inode]; }
  [[nodiscard]] const Inode& inode_of(NodeId id) const { return inodes_[nodes_[id].inode]; }
  [[nodiscard]] std::size_t inode_count() const { return inodes_.size(); }

  // The living child `name` of `dir`, or kNone.
  [[nodiscard]] NodeId find(NodeId dir, std::string_view name) const;
  // Puts `inode` at `dir`/`name`. Whatever living thing was there goes first, with all below it.
  // `name` is 1 to 255 bytes without '/' and NUL, and not "." or "..".
  [[nodiscard]] Result<NodeId> put(NodeId dir, std::string_view name, InodeId inode);
  // Replaces the inode of a living node, keeping its children.
  void replace_inode(NodeId id, InodeId inode) { nodes_[id].inode = inode; }
  // Removes a node (not the root) and all below it.
  void remove(NodeId id);
  // Removes everything below a directory.
  void remove_children(NodeId id);
  // Living children in chain order.
  [[nodiscard]] std::vector<NodeId> children(NodeId dir) const;
  // Sorts the chain of `dir` by name bytes and drops the dead from it.
  void sort_children(NodeId dir);

  [[nodiscard]] Result<InodeId> add_inode(const Inode& inode);
  [[nodiscard]] Result<TextId> add_text(std::string_view text);
  [[nodiscard]] std::string_view text(TextId id) const;
  [[nodiscard]] std::string_view name(NodeId id) const { return text(nodes_[id].name); }
  // Slash-separated path of a node without leading slash; for error texts.
  [[nodiscard]] std::string path(NodeId id) const;

  // Extended attributes as the byte string that EROFS stores (erofs_xattr.h); equal sets are kept once.
  [[nodiscard]] Result<std::uint32_t> add_xattrs(std::string entries);
  [[nodiscard]] std::string_view xattrs(std::uint32_t id) const { return *xattr_sets_[id]; }
  [[nodiscard]] std::size_t xattr_set_count() const { return xattr_sets_.size(); }

  [[nodiscard]] Result<std::uint32_t> add_chunk_map(ChunkMap map);
  [[nodiscard]] const ChunkMap& chunk_map(std::uint32_t id) const { return chunk_maps_[id]; }

  // Walks `path` (relative, '/'-separated) from `start`, following symbolic links inside the tree: ".." stops
  // at the root, at most kMaxSymlinksFollowed links. The last component is followed too. kNone if it leads
  // nowhere.
  [[nodiscard]] NodeId resolve(NodeId start, std::string_view path) const;

 private:
  [[nodiscard]] std::size_t slot_of(NodeId dir, std::string_view name) const;  // its slot, or the free one
  [[nodiscard]] Status grow_table();
  void forget(NodeId id);  // takes it out of the hash table

  Limits limits_;
  Scratch scratch_;
  ChunkedVector<Node> nodes_;
  ChunkedVector<Inode> inodes_;
  ScratchBlock table_memory_;
  std::span<NodeId> table_;  // in table_memory_; open addressing; kNone free, kForgotten once used
  std::size_t table_used_ = 0;
  std::vector<ScratchBlock> text_;
  std::size_t text_used_ = 0;  // of the last chunk
  std::unordered_map<std::string, std::uint32_t> xattr_index_;
  std::vector<const std::string*> xattr_sets_;  // keys of xattr_index_, whose addresses are stable
  std::size_t xattr_bytes_ = 0;
  std::vector<ChunkMap> chunk_maps_;
  std::size_t chunk_count_ = 0;  // in all of them
};

}  // namespace msb::oci
