// SPDX-License-Identifier: Apache-2.0
// Putting an image together: the trees of its layers, read from their EROFS blobs, laid over one another into
// one tree whose files point into the layers' data. Whiteouts and opaque directories are resolved here for
// good.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/result.h"
#include "oci/erofs_reader.h"
#include "oci/tree.h"

namespace msb::oci {

class Merger {
 public:
  // `tree` is borrowed and begins empty.
  explicit Merger(Tree& tree) : tree_(tree) {}
  // Lays one layer over what is there; call from the lowest up. `layer` numbers its data (Inode::layer).
  // kProtocol for links to what no layer has, kLimit, kCorrupt for a damaged blob.
  [[nodiscard]] Status add_layer(const erofs::Reader& layer, std::uint16_t number);

 private:
  struct Marks {
    bool implicit = false;
    bool opaque = false;
    bool whiteout = false;
    std::string link;
  };
  struct PendingLink {
    NodeId dir;
    std::string name;
    std::string target;
  };
  struct Level {
    std::uint64_t nid;
    NodeId node;
  };
  [[nodiscard]] Result<Inode> take_inode(const erofs::Reader& layer, const erofs::Reader::Info& info,
                                         std::uint16_t number, Marks& marks);
  [[nodiscard]] Status merge_entry(const erofs::Reader& layer, std::uint16_t number, const Level& level,
                                   std::string_view name, std::uint64_t nid, std::vector<Level>& stack);
  [[nodiscard]] Status merge_directory(const Level& level, std::string_view name, std::uint64_t nid,
                                       Inode inode, const Marks& marks, std::vector<Level>& stack);
  [[nodiscard]] Status resolve_links();

  Tree& tree_;
  std::unordered_map<std::uint64_t, InodeId> linked_;  // this layer's inodes with several names
  std::vector<PendingLink> links_;
};

}  // namespace msb::oci
