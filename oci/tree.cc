// SPDX-License-Identifier: Apache-2.0
#include "oci/tree.h"

#include <sys/stat.h>

#include <algorithm>
#include <cstring>

namespace msb::oci {
namespace {

constexpr NodeId kForgotten = 0xfffffffe;     // a hash slot that was used: searches go on past it
constexpr std::size_t kTextChunk = 1U << 16;  // larger than any text; a text never spans chunks
constexpr std::size_t kFirstSlots = 1024;     // of the hash table
constexpr std::size_t kTextLengthBytes = 2;   // each text is preceded by its length

std::size_t hash_name(NodeId dir, std::string_view name) {
  // FNV-1a over the bytes, then a finisher so that the low bits depend on all of them.
  std::uint64_t h = 0xcbf29ce484222325ULL ^ (static_cast<std::uint64_t>(dir) * 0x9e3779b97f4a7c15ULL);
  for (const char c : name) h = (h ^ static_cast<std::uint8_t>(c)) * 0x100000001b3ULL;
  h ^= h >> 32;
  h *= 0xd6e8feb86659fd93ULL;
  h ^= h >> 32;
  return static_cast<std::size_t>(h);
}

}  // namespace

bool Inode::is_dir() const { return S_ISDIR(mode); }
bool Inode::is_regular() const { return S_ISREG(mode); }
bool Inode::is_symlink() const { return S_ISLNK(mode); }
bool Inode::is_device() const { return S_ISCHR(mode) || S_ISBLK(mode); }

Tree::Tree(const Limits& limits, int scratch_fd) : limits_(limits), scratch_(scratch_fd) {
  Inode root;
  root.mode = S_IFDIR | 0755;
  root.flags = kImplicitDir;
  Node node;
  node.inode = 0;
  // All this fits the plain memory, which only a host without any refuses.
  MSB_CHECK(grow_table().ok() && inodes_.push_back(root, scratch_).ok() &&
            nodes_.push_back(node, scratch_).ok());
}

std::string_view Tree::text(TextId id) const {
  if (id == kNone) return {};
  const char* at = static_cast<const char*>(text_[id / kTextChunk].data()) + id % kTextChunk;
  std::uint16_t length = 0;
  std::memcpy(&length, at, kTextLengthBytes);
  return {at + kTextLengthBytes, length};
}

Result<TextId> Tree::add_text(std::string_view text) {
  const std::size_t need = kTextLengthBytes + text.size();
  if (need > kTextChunk) return make_error(Errc::kLimit, "a name or link target has %zu bytes", text.size());
  if (text_.empty() || need > kTextChunk - text_used_) {
    if ((text_.size() + 1) * kTextChunk > limits_.max_text_bytes) {
      return make_error(Errc::kLimit, "names and link targets take more than %u bytes",
                        limits_.max_text_bytes);
    }
    MSB_ASSIGN(ScratchBlock chunk, scratch_.allocate(kTextChunk));
    text_.push_back(std::move(chunk));
    text_used_ = 0;
  }
  char* at = static_cast<char*>(text_.back().data()) + text_used_;
  const auto length = static_cast<std::uint16_t>(text.size());
  std::memcpy(at, &length, kTextLengthBytes);
  if (!text.empty()) std::memcpy(at + kTextLengthBytes, text.data(), text.size());
  const auto id = static_cast<TextId>((text_.size() - 1) * kTextChunk + text_used_);
  text_used_ += need;
  return id;
}

std::size_t Tree::slot_of(NodeId dir, std::string_view name) const {
  const std::size_t mask = table_.size() - 1;
  std::size_t slot = hash_name(dir, name) & mask;
  std::size_t reusable = table_.size();
  // Bounded: the table is never full (grow_table), so a free slot ends every search.
  for (;; slot = (slot + 1) & mask) {
    const NodeId id = table_[slot];
    if (id == kNone) return reusable < table_.size() ? reusable : slot;
    if (id == kForgotten) {
      if (reusable == table_.size()) reusable = slot;
    } else if (nodes_[id].parent == dir && text(nodes_[id].name) == name) {
      return slot;
    }
  }
}

Status Tree::grow_table() {
  std::size_t live = 0;
  for (const NodeId id : table_) live += id < kForgotten ? 1 : 0;
  const std::size_t size =
      std::max(kFirstSlots, live * 2 >= table_.size() ? table_.size() * 2 : table_.size());
  MSB_ASSIGN(ScratchBlock memory, scratch_.allocate(size * sizeof(NodeId)));
  std::swap(memory, table_memory_);
  const std::span<NodeId> old = std::exchange(table_, {static_cast<NodeId*>(table_memory_.data()), size});
  std::fill(table_.begin(), table_.end(), kNone);
  table_used_ = live;
  for (const NodeId id : old) {
    if (id < kForgotten) table_[slot_of(nodes_[id].parent, name(id))] = id;
  }
  return {};
}

void Tree::forget(NodeId id) {
  const std::size_t slot = slot_of(nodes_[id].parent, name(id));
  if (table_[slot] == id) table_[slot] = kForgotten;
}

NodeId Tree::find(NodeId dir, std::string_view name) const {
  const NodeId id = table_[slot_of(dir, name)];
  return id < kForgotten && nodes_[id].inode != kNone ? id : kNone;
}

Result<NodeId> Tree::put(NodeId dir, std::string_view name, InodeId inode) {
  std::size_t slot = slot_of(dir, name);
  if (table_[slot] < kForgotten) {
    const NodeId id = table_[slot];
    if (nodes_[id].inode != kNone) remove_children(id);
    nodes_[id].inode = inode;
    return id;
  }
  if (nodes_.size() >= limits_.max_entries) {
    return make_error(Errc::kLimit, "more than %u entries", limits_.max_entries);
  }
  if ((table_used_ + 1) * 4 > table_.size() * 3) {
    MSB_TRY(grow_table());
    slot = slot_of(dir, name);
  }
  Node node;
  node.parent = dir;
  MSB_ASSIGN(node.name, add_text(name));
  node.inode = inode;
  node.next_sibling = nodes_[dir].first_child;
  const auto id = static_cast<NodeId>(nodes_.size());
  MSB_TRY(nodes_.push_back(node, scratch_));
  nodes_[dir].first_child = id;
  if (table_[slot] == kNone) ++table_used_;
  table_[slot] = id;
  return id;
}

void Tree::remove_children(NodeId top) {
  std::vector<NodeId> stack = {top};
  while (!stack.empty()) {
    const NodeId dir = stack.back();
    stack.pop_back();
    for (NodeId id = std::exchange(nodes_[dir].first_child, kNone); id != kNone;
         id = nodes_[id].next_sibling) {
      forget(id);
      nodes_[id].inode = kNone;
      stack.push_back(id);
    }
  }
}

void Tree::remove(NodeId id) {
  remove_children(id);
  nodes_[id].inode = kNone;
}

std::vector<NodeId> Tree::children(NodeId dir) const {
  std::vector<NodeId> list;
  for (NodeId id = nodes_[dir].first_child; id != kNone; id = nodes_[id].next_sibling) {
    if (nodes_[id].inode != kNone) list.push_back(id);
  }
  return list;
}

void Tree::sort_children(NodeId dir) {
  for (NodeId id = nodes_[dir].first_child; id != kNone; id = nodes_[id].next_sibling) {
    if (nodes_[id].inode == kNone) forget(id);
  }
  std::vector<NodeId> list = children(dir);
  std::sort(list.begin(), list.end(), [this](NodeId a, NodeId b) { return name(a) < name(b); });
  NodeId* link = &nodes_[dir].first_child;
  for (const NodeId id : list) {
    *link = id;
    link = &nodes_[id].next_sibling;
  }
  *link = kNone;
}

Result<InodeId> Tree::add_inode(const Inode& inode) {
  // Twice the entries: replaced files leave their inode behind.
  if (inodes_.size() / 2 >= limits_.max_entries) {
    return make_error(Errc::kLimit, "more than %u entries", limits_.max_entries);
  }
  MSB_TRY(inodes_.push_back(inode, scratch_));
  return static_cast<InodeId>(inodes_.size() - 1);
}

Result<std::uint32_t> Tree::add_xattrs(std::string entries) {
  const auto found = xattr_index_.find(entries);
  if (found != xattr_index_.end()) return found->second;
  if (entries.size() > limits_.max_xattr_bytes - xattr_bytes_) {
    return make_error(Errc::kLimit, "extended attributes take more than %u bytes", limits_.max_xattr_bytes);
  }
  xattr_bytes_ += entries.size();
  const auto id = static_cast<std::uint32_t>(xattr_sets_.size());
  xattr_sets_.push_back(&xattr_index_.emplace(std::move(entries), id).first->first);
  return id;
}

Result<std::uint32_t> Tree::add_chunk_map(ChunkMap map) {
  if (map.blocks.size() > limits_.max_chunks - chunk_count_) {
    return make_error(Errc::kLimit, "the maps of sparse files have more than %u chunks", limits_.max_chunks);
  }
  chunk_count_ += map.blocks.size();
  chunk_maps_.push_back(std::move(map));
  return static_cast<std::uint32_t>(chunk_maps_.size() - 1);
}

std::string Tree::path(NodeId id) const {
  std::string path;
  for (std::size_t depth = 0; id != kRootNode && depth < kMaxPathDepth; ++depth, id = nodes_[id].parent) {
    path.insert(0, path.empty() ? "" : "/");
    path.insert(0, name(id));
  }
  return path;
}

NodeId Tree::resolve(NodeId start, std::string_view path) const {
  // What is still to walk, as a stack of borrowed texts: the path, then targets of links met on the way.
  std::vector<std::string_view> pending = {path};
  NodeId at = start;
  int links = 0;
  while (!pending.empty()) {
    std::string_view& rest = pending.back();
    const std::size_t slash = rest.find('/');
    const std::string_view component = rest.substr(0, slash);
    if (slash == std::string_view::npos) {
      pending.pop_back();
    } else {
      rest.remove_prefix(slash + 1);
    }
    if (component.empty() || component == ".") continue;
    if (!inode_of(at).is_dir()) return kNone;
    if (component == "..") {
      if (at != kRootNode) at = nodes_[at].parent;
      continue;
    }
    const NodeId next = find(at, component);
    if (next == kNone) return kNone;
    if (inode_of(next).is_symlink()) {
      if (++links > kMaxSymlinksFollowed) return kNone;
      const std::string_view target = text(inode_of(next).data);
      if (target.starts_with('/')) at = kRootNode;
      pending.push_back(target);
      continue;
    }
    at = next;
  }
  return at;
}

}  // namespace msb::oci
