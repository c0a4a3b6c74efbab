// SPDX-License-Identifier: Apache-2.0
// LayerTree: the entries of one layer's tar put into a Tree, with whiteouts and opaque directories kept as
// marks for those below (OCI image specification, "Representing Changes"). Names are hostile and are judged
// here: nothing leaves the tree because there is nothing but the tree.
//
//   "..", empty targets, over-long names     refused
//   absolute names                           taken as relative to the root
//   a parent that is a symbolic link         followed inside the tree, ".." stopping at the root
//   a parent that is missing                 made, and marked as implied (a lower layer may have it)
//   the same name again                      the later entry wins; a directory only takes new attributes
//   a link target not in this layer          kept by path, to be found when the image is put together
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/result.h"
#include "oci/tar_reader.h"
#include "oci/tree.h"

namespace msb::oci {

class LayerTree {
 public:
  // `tree` is borrowed.
  explicit LayerTree(Tree& tree) : tree_(tree) {}

  // Takes one entry in. The result is the inode whose data the entry carries, to be filled in by the caller,
  // or kNone if there is no data to keep. Errors: kProtocol for hostile or broken names, kLimit.
  [[nodiscard]] Result<InodeId> add(const TarEntry& entry);

  // Turns the marks into what a layer's EROFS blob says about lower layers: whiteouts are 0:0 character
  // devices, opaque directories carry trusted.overlay.opaque (overlayfs), our own two marks are trusted.msb.*
  // attributes.
  [[nodiscard]] Status encode_marks();

  // Extended attributes dropped because they are of a namespace no filesystem we make can hold.
  [[nodiscard]] std::uint64_t dropped_xattrs() const { return dropped_xattrs_; }

 private:
  [[nodiscard]] Result<NodeId> enter(std::string_view parent);
  [[nodiscard]] Result<NodeId> step(NodeId dir, std::string_view component, int& links, std::string& detour);
  [[nodiscard]] Status white_out(NodeId dir, std::string_view name);
  [[nodiscard]] Result<InodeId> add_directory(NodeId dir, std::string_view name, Inode inode);
  [[nodiscard]] Status add_hard_link(NodeId dir, std::string_view name, const TarEntry& entry);
  [[nodiscard]] Result<Inode> make_inode(const TarEntry& entry);

  Tree& tree_;
  std::uint64_t dropped_xattrs_ = 0;
};

// A name of an entry without leading slashes, "." components and doubled slashes; "" is the root.
// kProtocol if it holds "..", a zero byte, a component over 255 bytes, or is too long altogether.
[[nodiscard]] Result<std::string> clean_entry_path(std::string_view path);

}  // namespace msb::oci
