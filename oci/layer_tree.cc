// SPDX-License-Identifier: Apache-2.0
#include "oci/layer_tree.h"

#include <sys/stat.h>

#include <algorithm>

#include "base/log.h"
#include "oci/erofs_xattr.h"

namespace msb::oci {
namespace {

constexpr std::string_view kWhiteoutPrefix = ".wh.";
constexpr std::string_view kOpaqueName = ".wh..wh..opq";
constexpr std::string_view kReservedPrefix =
    ".wh..wh.";  // of a union filesystem long gone; means nothing here

Error refused(std::string_view name, const char* what) {
  return make_error(Errc::kProtocol, "entry \"%s\": %s", quote_for_log(name).c_str(), what);
}

// st_rdev as inodes store it: 12 bits of major, 20 of minor.
std::uint32_t encode_device(std::uint32_t major, std::uint32_t minor) {
  return (minor & 0xff) | major << 8 | (minor & ~0xffU) << 12;
}

}  // namespace

Result<std::string> clean_entry_path(std::string_view path) {
  if (path.size() > kMaxPathBytes) return refused(path, "its name is longer than 4096 bytes");
  if (path.find('\0') != std::string_view::npos) return refused(path, "its name holds a zero byte");
  std::string clean;
  while (!path.empty()) {
    const std::size_t slash = path.find('/');
    const std::string_view component = path.substr(0, slash);
    if (component == "..") return refused(path, "its name leads upwards (\"..\")");
    if (component.size() > kMaxNameBytes) return refused(path, "a part of its name is longer than 255 bytes");
    if (!component.empty() && component != ".") {
      if (!clean.empty()) clean += '/';
      clean += component;
    }
    if (slash == std::string_view::npos) break;
    path.remove_prefix(slash + 1);
  }
  return clean;
}

Result<NodeId> LayerTree::step(NodeId dir, std::string_view component, int& links, std::string& detour) {
  Inode implicit;
  implicit.mode = S_IFDIR | 0755;
  implicit.flags = kImplicitDir;
  const NodeId next = tree_.find(dir, component);
  if (next == kNone || (tree_.inode_of(next).flags & kWhiteout) != 0) {
    // What an earlier entry removed and this one implies again begins empty.
    if (next != kNone) implicit.flags |= kOpaque;
    MSB_ASSIGN(const InodeId inode, tree_.add_inode(implicit));
    return tree_.put(dir, component, inode);
  }
  const Inode& inode = tree_.inode_of(next);
  if (inode.is_dir()) return next;
  if (!inode.is_symlink())
    return refused(tree_.path(next), "it is not a directory, yet another entry lies below it");
  if (++links > kMaxSymlinksFollowed)
    return refused(tree_.path(next), "too many symbolic links lead to an entry");
  detour = tree_.text(inode.data);
  return tree_.text(inode.data).starts_with('/') ? kRootNode : dir;
}

// The directory an entry lies in; made where missing. Links are followed as they stand now, as tar would.
Result<NodeId> LayerTree::enter(std::string_view parent) {
  NodeId at = kRootNode;
  int links = 0;
  std::string rest(parent);
  while (!rest.empty()) {
    const std::size_t slash = rest.find('/');
    const std::string component = rest.substr(0, slash);
    rest.erase(0, slash == std::string::npos ? rest.size() : slash + 1);
    if (component.empty() || component == ".") continue;
    if (component == "..") {
      if (at != kRootNode) at = tree_.node(at).parent;
      continue;
    }
    if (component.size() > kMaxNameBytes)
      return refused(parent, "a link on its way has a part longer than 255 bytes");
    std::string detour;
    MSB_ASSIGN(at, step(at, component, links, detour));
    if (!detour.empty()) rest = rest.empty() ? detour : detour + "/" + rest;
  }
  return at;
}

Result<Inode> LayerTree::make_inode(const TarEntry& entry) {
  Inode inode;
  using Kind = TarEntry::Kind;
  mode_t type = S_IFREG;
  switch (entry.kind) {
    case Kind::kFile:
    case Kind::kHardLink:
      type = S_IFREG;
      break;
    case Kind::kSymlink:
      type = S_IFLNK;
      break;
    case Kind::kCharDevice:
      type = S_IFCHR;
      break;
    case Kind::kBlockDevice:
      type = S_IFBLK;
      break;
    case Kind::kDirectory:
      type = S_IFDIR;
      break;
    case Kind::kFifo:
      type = S_IFIFO;
      break;
  }
  // Modes of symbolic links mean nothing to Linux, which shows them all as 0777.
  const std::uint32_t bits = entry.kind == Kind::kSymlink ? 0777 : entry.mode;
  inode.mode = static_cast<std::uint16_t>(type | bits);
  inode.uid = entry.uid;
  inode.gid = entry.gid;
  inode.mtime_s = entry.mtime_s;
  inode.mtime_ns = entry.mtime_ns;
  inode.size = entry.size;
  if (entry.kind == Kind::kSymlink) {
    if (entry.link.empty() || entry.link.size() > kMaxSymlinkBytes ||
        entry.link.find('\0') != std::string::npos) {
      return refused(entry.path, "its link target is empty, longer than 4095 bytes, or holds a zero byte");
    }
    MSB_ASSIGN(inode.data, tree_.add_text(entry.link));
    inode.size = entry.link.size();
  }
  if (inode.is_device()) inode.data = encode_device(entry.major, entry.minor);
  std::vector<Xattr> kept;
  for (const Xattr& xattr : entry.xattrs) {
    if (xattr.name.starts_with(erofs::kOverlayPrefix) || xattr.name.starts_with(erofs::kOwnPrefix) ||
        !erofs::can_store_xattr(xattr.name)) {
      ++dropped_xattrs_;
      continue;
    }
    kept.push_back(xattr);
  }
  if (!kept.empty()) {
    auto encoded = erofs::encode_xattrs(std::move(kept));
    if (!encoded)
      return std::move(encoded).error().with_context("entry \"" + quote_for_log(entry.path) + "\"");
    MSB_ASSIGN(inode.xattrs, tree_.add_xattrs(std::move(encoded).value()));
  }
  return inode;
}

Result<InodeId> LayerTree::add(const TarEntry& entry) {
  MSB_ASSIGN(const std::string path, clean_entry_path(entry.path));
  const std::size_t slash = path.rfind('/');
  const std::string parent = slash == std::string::npos ? "" : path.substr(0, slash);
  const std::string name = slash == std::string::npos ? path : path.substr(slash + 1);
  if (("/" + parent).find("/.wh.") != std::string::npos)
    return refused(entry.path, "it lies below a whiteout");

  if (name.starts_with(kWhiteoutPrefix)) {
    if (name != kOpaqueName && name.starts_with(kReservedPrefix)) return InodeId{kNone};
    const std::string_view target = std::string_view(name).substr(kWhiteoutPrefix.size());
    if (target.empty() || target == "." || target == "..")
      return refused(entry.path, "a whiteout of no name");
    MSB_ASSIGN(const NodeId dir, enter(parent));
    if (name == kOpaqueName) {
      tree_.inode_of(dir).flags |= kOpaque;
    } else {
      MSB_TRY(white_out(dir, target));
    }
    return InodeId{kNone};
  }
  if (path.empty()) {
    if (entry.kind != TarEntry::Kind::kDirectory)
      return refused(entry.path, "the root can only be a directory");
    MSB_ASSIGN(Inode root, make_inode(entry));
    root.flags = tree_.inode_of(kRootNode).flags & kOpaque;
    tree_.inode_of(kRootNode) = root;
    return InodeId{kNone};
  }
  MSB_ASSIGN(const NodeId dir, enter(parent));
  if (entry.kind == TarEntry::Kind::kHardLink) {
    MSB_TRY(add_hard_link(dir, name, entry));
    return InodeId{kNone};
  }
  MSB_ASSIGN(Inode inode, make_inode(entry));
  if (entry.kind == TarEntry::Kind::kDirectory) {
    MSB_TRY(add_directory(dir, name, inode));
    return InodeId{kNone};
  }
  MSB_ASSIGN(const InodeId id, tree_.add_inode(inode));
  MSB_TRY(tree_.put(dir, name, id));
  return entry.kind == TarEntry::Kind::kFile ? id : InodeId{kNone};
}

// Directories meet their like by taking on the attributes; anything else they replace, and then they also
// hide what lower layers have there.
Result<InodeId> LayerTree::add_directory(NodeId dir, std::string_view name, Inode inode) {
  const NodeId there = tree_.find(dir, name);
  if (there != kNone && tree_.inode_of(there).is_dir()) {
    inode.flags = tree_.inode_of(there).flags & kOpaque;
    tree_.inode_of(there) = inode;
    return tree_.node(there).inode;
  }
  if (there != kNone) inode.flags |= kOpaque;
  MSB_ASSIGN(const InodeId id, tree_.add_inode(inode));
  MSB_TRY(tree_.put(dir, name, id));
  return id;
}

Status LayerTree::add_hard_link(NodeId dir, std::string_view name, const TarEntry& entry) {
  MSB_ASSIGN(const std::string target, clean_entry_path(entry.link));
  if (target.empty()) return refused(entry.path, "a hard link to the root");
  // As link(2): links among the target's parents are followed, a link as the target itself is not.
  const std::size_t slash = target.rfind('/');
  const NodeId parent =
      slash == std::string::npos ? kRootNode : tree_.resolve(kRootNode, target.substr(0, slash));
  const std::string_view last = std::string_view(target).substr(slash == std::string::npos ? 0 : slash + 1);
  const NodeId found = parent == kNone || !tree_.inode_of(parent).is_dir() ? kNone : tree_.find(parent, last);
  if (found != kNone) {
    const Inode& inode = tree_.inode_of(found);
    if (inode.is_dir()) return refused(entry.path, "a hard link to a directory");
    if ((inode.flags & kWhiteout) != 0) return refused(entry.path, "a hard link to what the layer removes");
    if (tree_.find(dir, name) == found) return {};
    MSB_TRY(tree_.put(dir, name, tree_.node(found).inode));
    return {};
  }
  Inode inode;
  inode.mode = S_IFCHR;
  inode.flags = kLinkByPath;
  MSB_ASSIGN(inode.data, tree_.add_text(target));
  MSB_ASSIGN(const InodeId id, tree_.add_inode(inode));
  MSB_TRY(tree_.put(dir, name, id));
  return {};
}

// Whiteouts are about lower layers only: what this layer itself has at that name stays.
Status LayerTree::white_out(NodeId dir, std::string_view name) {
  const NodeId there = tree_.find(dir, name);
  if (there != kNone) {
    if (tree_.inode_of(there).is_dir()) tree_.inode_of(there).flags |= kOpaque;
    return {};
  }
  Inode inode;
  inode.mode = S_IFCHR;
  inode.flags = kWhiteout;
  MSB_ASSIGN(const InodeId id, tree_.add_inode(inode));
  MSB_TRY(tree_.put(dir, name, id));
  return {};
}

Status LayerTree::encode_marks() {
  for (std::size_t i = 0; i < tree_.inode_count(); ++i) {
    Inode& inode = tree_.inode(static_cast<InodeId>(i));
    if ((inode.flags & (kImplicitDir | kOpaque | kWhiteout | kLinkByPath)) == 0) continue;
    std::vector<Xattr> xattrs;
    if (inode.xattrs != kNone) {
      MSB_ASSIGN(xattrs, erofs::decode_xattrs(tree_.xattrs(inode.xattrs)));
    }
    if ((inode.flags & kImplicitDir) != 0) xattrs.push_back({std::string(erofs::kOwnImplicit), ""});
    if ((inode.flags & kOpaque) != 0) xattrs.push_back({std::string(erofs::kOverlayOpaque), "y"});
    if ((inode.flags & kLinkByPath) != 0) {
      xattrs.push_back({std::string(erofs::kOwnLink), std::string(tree_.text(inode.data))});
    }
    if ((inode.flags & (kWhiteout | kLinkByPath)) != 0) inode.data = encode_device(0, 0);
    if (xattrs.empty()) continue;
    MSB_ASSIGN(std::string encoded, erofs::encode_xattrs(std::move(xattrs)));
    MSB_ASSIGN(inode.xattrs, tree_.add_xattrs(std::move(encoded)));
  }
  return {};
}

}  // namespace msb::oci
