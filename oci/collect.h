// SPDX-License-Identifier: Apache-2.0
// Taking images out of the store. The caller holds the store's exclusive lock: nobody adds an image and
// nobody is between reading one and writing the sandbox that needs it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "oci/catalog.h"
#include "oci/store.h"

namespace msb::oci {

// What was taken out, or would be.
struct Removal {
  std::vector<std::string> references;  // names that mean nothing any more
  std::vector<std::string> images;      // manifest digests
  std::vector<std::string> files;       // below images/
  std::uint64_t freed_bytes = 0;        // of the disk, as far as nothing else shares them
};

// Takes away one name; the image goes with its last one. Given by digest, all its names go. `reference` is as
// people write it. kBusy if a sandbox needs an image that would go.
[[nodiscard]] Result<Removal> plan_removal(const Store& store, const Catalog& catalog,
                                           const std::string& text);

struct PruneOptions {
  bool all = false;                              // named images too, unless a sandbox needs them
  std::optional<std::int64_t> loaded_before_ns;  // only images that came before
  std::optional<std::uint64_t> keep_bytes;       // the newest images up to this much stay
};
// Images nothing needs, and files that belong to no image: layers of broken downloads, old merged trees.
// kCorrupt if a record cannot be read, for then nobody knows what it needs.
[[nodiscard]] Result<Removal> plan_prune(const Store& store, const Catalog& catalog,
                                         const PruneOptions& options);

// Does it: names first, so that whoever is killed leaves garbage and no broken image.
[[nodiscard]] Status carry_out(const Store& store, const Removal& removal);

}  // namespace msb::oci
