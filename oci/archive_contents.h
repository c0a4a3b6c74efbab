// SPDX-License-Identifier: Apache-2.0
// What one pass over an archive found; see load.h.
#pragma once

#include <map>
#include <optional>
#include <string>

#include "base/result.h"
#include "oci/byte_stream.h"
#include "oci/layer_stage.h"
#include "oci/store.h"

namespace msb::oci {

struct StagedLayer {
  std::string diff_id;  // "sha256:<hex>"
  std::string digest;   // of the member as it stands in the archive
  std::uint64_t size = 0;
  std::string media_type;
};

class ArchiveContents {
 public:
  ArchiveContents(const Store& store, StageOptions options) : store_(store), options_(std::move(options)) {}

  // Takes in the member `name` (clean path) whose content is read from `content` as far as it is wanted.
  [[nodiscard]] Status add_file(const std::string& name, ByteStream& content);
  // A symbolic or hard link to another member (clean path).
  void add_link(const std::string& name, const std::string& target) { links_[name] = target; }

  // By member name, links followed; nullptr if there is none.
  [[nodiscard]] const std::string* json(const std::string& name) const;
  [[nodiscard]] const StagedLayer* layer(const std::string& name) const;

 private:
  [[nodiscard]] std::string follow(std::string name) const;
  const Store& store_;
  StageOptions options_;
  std::map<std::string, std::string> documents_;
  std::map<std::string, StagedLayer> layers_;
  std::map<std::string, std::string> links_;
  std::size_t document_bytes_ = 0;
};

// A link's target as a path in the archive: relative ones start at the link's directory. nullopt if it leaves
// it.
[[nodiscard]] std::optional<std::string> archive_link_target(const std::string& link,
                                                             const std::string& target);

}  // namespace msb::oci
