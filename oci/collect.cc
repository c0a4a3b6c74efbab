// SPDX-License-Identifier: Apache-2.0
#include "oci/collect.h"

#include <algorithm>
#include <array>
#include <set>

#include "base/image_reference.h"
#include "base/log.h"
#include "oci/digest.h"

namespace msb::oci {
namespace {

std::string reference_path(const std::string& canonical) {
  const auto reference = parse_image_reference(canonical);
  return reference ? "refs/" + reference->key() + ".json" : "";
}

std::string users_text(const std::set<std::string>& users) {
  std::string text;
  for (const std::string& name : users) text += (text.empty() ? "" : ", ") + quote_for_log(name);
  return text;
}

// Fills in the files that only the images to be removed need, and what they take.
void count_files(const Store& store, const Catalog& catalog, Removal& removal) {
  std::set<std::string> kept;
  const std::set<std::string> going(removal.images.begin(), removal.images.end());
  for (const auto& [digest, image] : catalog.images) {
    if (going.contains(digest)) continue;
    for (std::string& file : files_of(image)) kept.insert(std::move(file));
  }
  std::set<std::string> files;
  for (const std::string& digest : removal.images) {
    for (std::string& file : files_of(catalog.images.at(digest))) {
      if (!kept.contains(file)) files.insert(std::move(file));
    }
  }
  for (const std::string& file : files) {
    if (const auto usage = store.usage(file)) {
      removal.freed_bytes += usage->disk;
      removal.files.push_back(file);
    }
  }
}

// What no image of the catalog accounts for.
Status add_orphans(const Store& store, const Catalog& catalog, Removal& removal) {
  std::set<std::string> known;
  for (const auto& [digest, image] : catalog.images) {
    for (std::string& file : files_of(image)) known.insert(std::move(file));
  }
  constexpr std::array kContent = {"metadata", "layers", "disks", "blobs", "partial", "locks"};
  for (const char* directory : kContent) {
    MSB_ASSIGN(const auto names, store.list(directory));
    for (const std::string& name : names) {
      const std::string path = std::string(directory) + "/" + name;
      if (known.contains(path)) continue;
      if (const auto usage = store.usage(path)) removal.freed_bytes += usage->disk;
      removal.files.push_back(path);
    }
  }
  return {};
}

}  // namespace

Result<Removal> plan_removal(const Store& store, const Catalog& catalog, const std::string& text) {
  auto found = find_image(catalog, text);
  if (!found) return std::move(found).error();
  const ImageRecord& image = **found;
  const std::vector<std::string> names = catalog.names_of(image.manifest_digest);
  Removal removal;
  const auto reference = parse_image_reference(text);
  const bool by_name = reference.ok() && catalog.references.contains(reference->canonical()) &&
                       catalog.references.at(reference->canonical()) == image.manifest_digest;
  removal.references = by_name ? std::vector<std::string>{reference->canonical()} : names;
  if (removal.references.size() < names.size()) return removal;
  if (const auto users = catalog.users.find(image.manifest_digest); users != catalog.users.end()) {
    return make_error(Errc::kBusy, "remove image %s: needed by sandbox %s", quote_for_log(text).c_str(),
                      users_text(users->second).c_str());
  }
  removal.images.push_back(image.manifest_digest);
  count_files(store, catalog, removal);
  return removal;
}

Result<Removal> plan_prune(const Store& store, const Catalog& catalog, const PruneOptions& options) {
  if (!catalog.damaged.empty()) {
    return make_error(Errc::kCorrupt, "prune: images/%s cannot be read: remove that file, then prune again",
                      catalog.damaged.front().c_str());
  }
  Removal removal;
  for (const auto& [reference, digest] : catalog.references) {
    if (!catalog.images.contains(digest)) removal.references.push_back(reference);
  }
  std::vector<const ImageRecord*> candidates;
  std::uint64_t kept = 0;
  for (const auto& [digest, image] : catalog.images) {
    const bool named = !catalog.names_of(digest).empty();
    const bool needed = catalog.users.contains(digest) || (named && !options.all) ||
                        (options.loaded_before_ns && image.loaded_ns >= *options.loaded_before_ns);
    if (needed) {
      kept += image.root_size;
    } else {
      candidates.push_back(&image);
    }
  }
  std::sort(candidates.begin(), candidates.end(),
            [](const ImageRecord* a, const ImageRecord* b) { return a->loaded_ns > b->loaded_ns; });
  for (const ImageRecord* image : candidates) {
    if (options.keep_bytes && kept <= *options.keep_bytes && image->root_size <= *options.keep_bytes - kept) {
      kept += image->root_size;
      continue;
    }
    removal.images.push_back(image->manifest_digest);
    for (std::string& name : catalog.names_of(image->manifest_digest))
      removal.references.push_back(std::move(name));
  }
  count_files(store, catalog, removal);
  MSB_TRY(add_orphans(store, catalog, removal));
  return removal;
}

Status carry_out(const Store& store, const Removal& removal) {
  for (const std::string& reference : removal.references) MSB_TRY(store.remove(reference_path(reference)));
  // Records before what they speak of.
  for (const bool records : {true, false}) {
    for (const std::string& file : removal.files) {
      if (file.starts_with("manifests/") == records) MSB_TRY(store.remove(file));
    }
  }
  return {};
}

}  // namespace msb::oci
