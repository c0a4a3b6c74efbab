// SPDX-License-Identifier: Apache-2.0
#include "oci/catalog.h"

#include <dirent.h>
#include <fcntl.h>

#include <algorithm>
#include <memory>

#include "base/file.h"
#include "base/image_reference.h"
#include "base/json.h"
#include "base/log.h"
#include "oci/digest.h"

namespace msb::oci {
namespace {

constexpr std::size_t kMaxRecordBytes = std::size_t{16} << 20;
constexpr std::size_t kShortestPrefix = 6;
constexpr std::string_view kImages = "images/";

struct StoredReference {
  std::string reference, manifest_digest;
};
Result<StoredReference> parse_reference_file(const std::string& text) {
  MSB_ASSIGN(const JsonDocument document, JsonDocument::parse(text));
  StoredReference out;
  MSB_ASSIGN(out.reference, document.root().get_string("reference"));
  MSB_ASSIGN(out.manifest_digest, document.root().get_string("manifest_digest"));
  if (!is_sha256_digest(out.manifest_digest)) return make_error(Errc::kCorrupt, "not a digest");
  return out;
}

// Which image the sandbox in `directory` of sandboxes/ was made from; "" if there is no telling.
std::string image_of_sandbox(int sandboxes_fd, const std::string& directory) {
  const auto fd = open_at(sandboxes_fd, directory + "/spec.json", O_RDONLY | O_NOFOLLOW);
  if (!fd) return "";
  const auto text = read_all(fd->get(), kMaxRecordBytes);
  if (!text) return "";
  const auto document = JsonDocument::parse(*text, {.max_bytes = kMaxRecordBytes});
  if (!document) return "";
  const auto image = document->root().find("image");
  return image ? image->get_string_or("manifest_digest", "").value_or("") : "";
}

Status read_users(const Store& store, Catalog& catalog) {
  auto fd = open_at(store.home_fd(), "sandboxes", O_RDONLY | O_DIRECTORY);
  if (!fd) return fd.error().code == Errc::kNotFound ? Status{} : Status(fd.error());
  const int sandboxes = fd->get();
  const std::unique_ptr<DIR, int (*)(DIR*)> dir(::fdopendir(sandboxes), ::closedir);
  if (!dir) return sys_error("list the sandboxes");
  (void)fd->release();
  while (const dirent* entry = ::readdir(dir.get())) {
    const std::string name = entry->d_name;
    if (name == "." || name == "..") continue;
    const std::string digest = image_of_sandbox(sandboxes, name);
    if (!digest.empty()) catalog.users[digest].insert(name);
  }
  return {};
}

}  // namespace

Result<ImageRecord> parse_image_record(std::string_view json) {
  MSB_ASSIGN(const JsonDocument document, JsonDocument::parse(json, {.max_bytes = kMaxRecordBytes}));
  const JsonView root = document.root();
  ImageRecord record;
  MSB_ASSIGN(record.manifest_digest, root.get_string("manifest_digest"));
  MSB_ASSIGN(record.config_digest, root.get_string("config_digest"));
  MSB_ASSIGN(record.os, root.get_string_or("os", ""));
  MSB_ASSIGN(record.architecture, root.get_string_or("architecture", ""));
  MSB_ASSIGN(record.variant, root.get_string_or("variant", ""));
  MSB_ASSIGN(record.created, root.get_string_or("created", ""));
  MSB_ASSIGN(record.loaded_ns, root.get_int_or("loaded_ns", 0));
  MSB_ASSIGN(record.size, root.get_uint_or("size", 0));
  MSB_ASSIGN(record.root_size, root.get_uint_or("root_size", 0));
  if (const auto config = root.find("config")) record.config = config->dump();
  MSB_ASSIGN(const JsonView list, root.at("layers"));
  MSB_ASSIGN(const auto layers, list.elements());
  for (const JsonView& view : layers) {
    ImageLayer layer;
    MSB_ASSIGN(layer.diff_id, view.get_string("diff_id"));
    MSB_ASSIGN(layer.digest, view.get_string("digest"));
    MSB_ASSIGN(layer.media_type, view.get_string_or("media_type", ""));
    MSB_ASSIGN(layer.size, view.get_uint_or("size", 0));
    if (!is_sha256_digest(layer.diff_id) || !is_sha256_digest(layer.digest))
      return make_error(Errc::kCorrupt, "%s: not a digest", view.path().c_str());
    record.layers.push_back(std::move(layer));
  }
  MSB_ASSIGN(const JsonView disk, root.at("root"));
  MSB_ASSIGN(record.file_system, disk.get_string_or("file_system", "erofs"));
  MSB_ASSIGN(const JsonView extent_list, disk.at("extents"));
  MSB_ASSIGN(const auto extents, extent_list.elements());
  for (const JsonView& extent : extents) {
    MSB_ASSIGN(const std::string path, extent.get_string("path"));
    if (!path.starts_with(kImages) || path.find("..") != std::string::npos)
      return make_error(Errc::kCorrupt, "%s: a path outside the store", extent.path().c_str());
    record.files.push_back(path.substr(kImages.size()));
  }
  if (!is_sha256_digest(record.manifest_digest) || !is_sha256_digest(record.config_digest))
    return make_error(Errc::kCorrupt, "not a digest");
  return record;
}

std::vector<std::string> files_of(const ImageRecord& image) {
  std::vector<std::string> files = image.files;
  files.push_back("manifests/" + digest_hex(image.manifest_digest) + ".json");
  files.push_back("blobs/" + digest_hex(image.manifest_digest));
  files.push_back("blobs/" + digest_hex(image.config_digest));
  for (const ImageLayer& layer : image.layers) files.push_back(split_path(digest_hex(layer.diff_id)));
  return files;
}

std::vector<std::string> Catalog::names_of(const std::string& manifest_digest) const {
  std::vector<std::string> names;
  for (const auto& [reference, digest] : references) {
    if (digest == manifest_digest) names.push_back(reference);
  }
  return names;
}

Result<Catalog> read_catalog(const Store& store) {
  Catalog catalog;
  MSB_ASSIGN(const auto manifests, store.list("manifests"));
  for (const std::string& name : manifests) {
    const auto text = store.get("manifests/" + name, kMaxRecordBytes);
    if (!text && text.error().code == Errc::kNotFound) continue;  // just removed
    auto record = text ? parse_image_record(*text) : Result<ImageRecord>(text.error());
    if (record && name != digest_hex(record->manifest_digest) + ".json")
      record = make_error(Errc::kCorrupt, "it is about another image");
    if (!record) {
      catalog.damaged.push_back("manifests/" + name);
      continue;
    }
    std::string digest = record->manifest_digest;
    catalog.images.emplace(std::move(digest), std::move(record).value());
  }
  MSB_ASSIGN(const auto references, store.list("refs"));
  for (const std::string& name : references) {
    const auto text = store.get("refs/" + name, kMaxRecordBytes);
    if (!text && text.error().code == Errc::kNotFound) continue;
    auto reference = text ? parse_reference_file(*text) : Result<StoredReference>(text.error());
    if (!reference) {
      catalog.damaged.push_back("refs/" + name);
      continue;
    }
    catalog.references.emplace(reference->reference, reference->manifest_digest);
  }
  MSB_TRY(read_users(store, catalog));
  return catalog;
}

Result<const ImageRecord*> find_image(const Catalog& catalog, const std::string& text) {
  const std::string_view hex = std::string_view(text).substr(text.starts_with("sha256:") ? 7 : 0);
  const bool digits = hex.size() >= kShortestPrefix && hex.size() <= 64 &&
                      hex.find_first_not_of("0123456789abcdef") == std::string_view::npos;
  if (!text.starts_with("sha256:") && hex.size() != 64) {
    auto reference = parse_image_reference(text);
    if (!reference) return std::move(reference).error();
    const auto named = catalog.references.find(reference->canonical());
    if (named != catalog.references.end()) {
      const auto image = catalog.images.find(named->second);
      if (image != catalog.images.end()) return &image->second;
    }
  }
  const ImageRecord* found = nullptr;
  for (const auto& [digest, image] : catalog.images) {
    if (!digits ||
        (!digest_hex(digest).starts_with(hex) && !digest_hex(image.config_digest).starts_with(hex)))
      continue;
    if (found != nullptr)
      return make_error(Errc::kInvalid, "\"%s\" means several images", quote_for_log(text).c_str());
    found = &image;
  }
  if (found == nullptr)
    return make_error(Errc::kNotFound, "no image \"%s\" in the store", quote_for_log(text).c_str());
  return found;
}

}  // namespace msb::oci
