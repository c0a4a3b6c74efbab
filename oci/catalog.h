// SPDX-License-Identifier: Apache-2.0
// What is in the store: images by manifest digest, the names that mean them, and which sandboxes need them.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "base/result.h"
#include "oci/image.h"
#include "oci/store.h"

namespace msb::oci {

// An image's record as image.cc wrote it.
struct ImageRecord {
  std::string manifest_digest, config_digest;
  std::string os, architecture, variant, created;
  std::string config;  // JSON of the record's "config"
  std::int64_t loaded_ns = 0;
  std::vector<ImageLayer> layers;
  std::uint64_t size = 0;          // of the layers as they came
  std::uint64_t root_size = 0;     // of the root disk
  std::string file_system;         // of the root disk: "erofs" for layers, else what its disk image has
  std::vector<std::string> files;  // below images/: the merged metadata, then the layers; or the disk

  [[nodiscard]] bool from_disk() const { return file_system != "erofs"; }
};

struct Catalog {
  std::map<std::string, ImageRecord> images;           // by manifest digest
  std::map<std::string, std::string> references;       // canonical reference -> manifest digest
  std::map<std::string, std::set<std::string>> users;  // manifest digest -> names of sandboxes
  std::vector<std::string> damaged;                    // files below images/ that cannot be read

  [[nodiscard]] std::vector<std::string> names_of(const std::string& manifest_digest) const;
};
// Damaged files are listed, not fatal: `ls` must work when something is wrong.
[[nodiscard]] Result<Catalog> read_catalog(const Store& store);

// The image that `text` means: a reference, or (a beginning of at least 6 digits of) its manifest or config
// digest, with or without "sha256:". kNotFound; kInvalid if it is ambiguous.
[[nodiscard]] Result<const ImageRecord*> find_image(const Catalog& catalog, const std::string& text);

[[nodiscard]] Result<ImageRecord> parse_image_record(std::string_view json);

// All the files below images/ that an image consists of: record, manifest, config, root disk, tar records.
[[nodiscard]] std::vector<std::string> files_of(const ImageRecord& image);

}  // namespace msb::oci
