// SPDX-License-Identifier: Apache-2.0
#include "oci/merge.h"

#include <sys/stat.h>

#include "base/log.h"
#include "oci/erofs_xattr.h"

namespace msb::oci {

using erofs::Layout;
using erofs::Reader;

Status Merger::add_layer(const Reader& layer, std::uint16_t number) {
  linked_.clear();
  links_.clear();
  MSB_ASSIGN(const Reader::Info root, layer.inode(layer.root()));
  if (!S_ISDIR(root.mode)) return make_error(Errc::kCorrupt, "a layer's root is not a directory");
  Marks marks;
  MSB_ASSIGN(const Inode inode, take_inode(layer, root, number, marks));
  if (marks.opaque) tree_.remove_children(kRootNode);
  if (!marks.implicit) tree_.inode_of(kRootNode) = inode;
  std::vector<Level> stack = {{root.nid, kRootNode}};
  std::size_t directories = 0;
  while (!stack.empty()) {
    const Level level = stack.back();
    stack.pop_back();
    // A damaged blob could lead in circles; a sound one has fewer directories than entries are allowed.
    if (++directories > tree_.limits().max_entries)
      return make_error(Errc::kCorrupt, "a layer's directories form a circle");
    MSB_ASSIGN(const Reader::Info dir, layer.inode(level.nid));
    MSB_TRY(layer.list(dir, [&](std::string_view name, std::uint64_t nid) {
      return merge_entry(layer, number, level, name, nid, stack);
    }));
  }
  return resolve_links();
}

Result<Inode> Merger::take_inode(const Reader& layer, const Reader::Info& info, std::uint16_t number,
                                 Marks& marks) {
  Inode inode;
  inode.mode = info.mode;
  inode.size = info.size;
  inode.mtime_s = info.mtime_s;
  inode.mtime_ns = info.mtime_ns;
  inode.uid = info.uid;
  inode.gid = info.gid;
  inode.layer = number;
  inode.data = info.data;
  if (inode.is_symlink()) {
    MSB_ASSIGN(const std::string_view target, layer.link_target(info));
    MSB_ASSIGN(inode.data, tree_.add_text(target));
  } else if (inode.is_regular() && info.layout == Layout::kChunked) {
    ChunkMap map;
    map.chunk_bits = static_cast<std::uint8_t>(Reader::chunk_bits(info));
    MSB_ASSIGN(map.blocks, layer.chunks(info));
    MSB_ASSIGN(inode.data, tree_.add_chunk_map(std::move(map)));
    inode.flags |= kChunked;
  }
  MSB_ASSIGN(std::string_view entries, layer.xattrs(info));
  marks.whiteout = S_ISCHR(inode.mode) && inode.data == 0;
  if (entries.empty()) return inode;
  MSB_ASSIGN(std::vector<Xattr> xattrs, erofs::decode_xattrs(entries));
  std::vector<Xattr> kept;
  for (Xattr& xattr : xattrs) {
    if (xattr.name == erofs::kOverlayOpaque) {
      marks.opaque = true;
    } else if (xattr.name == erofs::kOwnImplicit) {
      marks.implicit = true;
    } else if (xattr.name == erofs::kOwnLink) {
      marks.link = std::move(xattr.value);
    } else {
      kept.push_back(std::move(xattr));
    }
  }
  if (!kept.empty()) {
    MSB_ASSIGN(std::string encoded, erofs::encode_xattrs(std::move(kept)));
    MSB_ASSIGN(inode.xattrs, tree_.add_xattrs(std::move(encoded)));
  }
  return inode;
}

Status Merger::merge_entry(const Reader& layer, std::uint16_t number, const Level& level,
                           std::string_view name, std::uint64_t nid, std::vector<Level>& stack) {
  if (const auto known = linked_.find(nid); known != linked_.end()) {
    MSB_TRY(tree_.put(level.node, name, known->second));
    return {};
  }
  MSB_ASSIGN(const Reader::Info info, layer.inode(nid));
  Marks marks;
  MSB_ASSIGN(const Inode inode, take_inode(layer, info, number, marks));
  if (!marks.link.empty()) {
    links_.push_back({level.node, std::string(name), std::move(marks.link)});
    return {};
  }
  if (marks.whiteout) {
    if (const NodeId there = tree_.find(level.node, name); there != kNone) tree_.remove(there);
    return {};
  }
  if (inode.is_dir()) return merge_directory(level, name, nid, inode, marks, stack);
  MSB_ASSIGN(const InodeId id, tree_.add_inode(inode));
  if (info.nlink > 1) linked_.emplace(nid, id);
  MSB_TRY(tree_.put(level.node, name, id));
  return {};
}

Status Merger::merge_directory(const Level& level, std::string_view name, std::uint64_t nid, Inode inode,
                               const Marks& marks, std::vector<Level>& stack) {
  NodeId there = tree_.find(level.node, name);
  if (there != kNone && marks.implicit && !marks.opaque && tree_.inode_of(there).is_symlink()) {
    // The layer only passes through: it means the directory that a lower layer's link leads to.
    const NodeId target = tree_.resolve(level.node, name);
    if (target != kNone && tree_.inode_of(target).is_dir()) there = target;
  }
  if (there == kNone || !tree_.inode_of(there).is_dir()) {
    MSB_ASSIGN(const InodeId id, tree_.add_inode(inode));
    MSB_ASSIGN(const NodeId made, tree_.put(level.node, name, id));
    stack.push_back({nid, made});
    return {};
  }
  if (marks.opaque) tree_.remove_children(there);
  if (!marks.implicit) tree_.inode_of(there) = inode;
  stack.push_back({nid, there});
  return {};
}

// Hard links to files of lower layers, once all else of the layer is in place.
Status Merger::resolve_links() {
  for (const PendingLink& link : links_) {
    const std::size_t slash = link.target.rfind('/');
    const std::string_view target = link.target;
    const NodeId parent =
        slash == std::string::npos ? kRootNode : tree_.resolve(kRootNode, target.substr(0, slash));
    const NodeId found = parent == kNone || !tree_.inode_of(parent).is_dir()
                             ? kNone
                             : tree_.find(parent, target.substr(slash == std::string::npos ? 0 : slash + 1));
    if (found == kNone || tree_.inode_of(found).is_dir()) {
      return make_error(Errc::kProtocol, "entry \"%s\": a hard link to \"%s\", which no layer has as a file",
                        quote_for_log(link.name).c_str(), quote_for_log(link.target).c_str());
    }
    if (tree_.find(link.dir, link.name) == found) continue;
    MSB_TRY(tree_.put(link.dir, link.name, tree_.node(found).inode));
  }
  return {};
}

}  // namespace msb::oci
