// SPDX-License-Identifier: Apache-2.0
#include "oci/save.h"

#include <fcntl.h>

#include <set>

#include "base/file.h"
#include "base/image_reference.h"
#include "base/json.h"
#include "oci/digest.h"
#include "oci/manifest.h"
#include "oci/media_types.h"
#include "oci/tar_split.h"
#include "oci/tar_writer.h"

namespace msb::oci {
namespace {

std::string blob_name(const std::string& digest) { return "blobs/sha256/" + digest_hex(digest); }

class Saver {
 public:
  Saver(const Store& store, int fd, const Limits& limits) : store_(store), limits_(limits), tar_(fd) {}

  Status add(const SavedImage& saved) {
    const ImageRecord& image = *saved.image;
    MSB_ASSIGN(const std::string config,
               store_.get("blobs/" + digest_hex(image.config_digest), kMaxConfigBytes));
    MSB_ASSIGN(std::string manifest,
               store_.get("blobs/" + digest_hex(image.manifest_digest), kMaxManifestBytes));
    bool original = true;
    std::vector<ImageLayer> layers = image.layers;
    for (ImageLayer& layer : layers) {
      MSB_ASSIGN(layer.size, add_layer(layer.diff_id));
      original = original && layer.digest == layer.diff_id;
      layer.digest = layer.diff_id;
      layer.media_type = kOciLayer;
    }
    if (!original) manifest = make_manifest(image.config_digest, config.size(), layers);
    const std::string digest = digest_of(as_bytes(manifest));
    MSB_TRY(add_document(digest, manifest));
    MSB_TRY(add_document(image.config_digest, config));
    MSB_ASSIGN(const Manifest parsed, parse_manifest(manifest, ""));
    const Described what{digest, parsed.media_type.empty() ? std::string(kOciManifest) : parsed.media_type,
                         manifest.size()};
    for (const std::string& reference : saved.references) name(image, what, reference);
    if (saved.references.empty()) name(image, what, "");
    docker(image, layers, saved.references);
    return {};
  }

  Status finish() {
    MSB_TRY(tar_.add("oci-layout", R"({"imageLayoutVersion":"1.0.0"})"));
    JsonWriter index;
    index.begin_object()
        .field("schemaVersion", 2)
        .field("mediaType", kOciIndex)
        .key("manifests")
        .begin_array();
    for (const std::string& entry : index_) index.raw(entry);
    index.end_array().end_object();
    MSB_TRY(tar_.add("index.json", std::move(index).take()));
    JsonWriter manifest;
    manifest.begin_array();
    for (const std::string& entry : docker_) manifest.raw(entry);
    manifest.end_array();
    MSB_TRY(tar_.add("manifest.json", std::move(manifest).take()));
    return tar_.finish();
  }

 private:
  Result<std::uint64_t> add_layer(const std::string& diff_id) {
    const std::string hex = digest_hex(diff_id);
    const auto context = "layer " + diff_id;
    std::uint64_t size = 0;
    {
      MSB_ASSIGN(const UniqueFd split, open_at(store_.images_fd(), split_path(hex), O_RDONLY));
      FdStream records(split.get());
      auto length = tar_split_length(records, limits_.max_layer_bytes);
      if (!length) return std::move(length).error().with_context(context);
      size = *length;
    }
    if (!written_.insert(diff_id).second) return size;
    MSB_ASSIGN(const UniqueFd split, open_at(store_.images_fd(), split_path(hex), O_RDONLY));
    MSB_ASSIGN(const UniqueFd blob, open_at(store_.images_fd(), layer_path(hex), O_RDONLY));
    FdStream records(split.get());
    TarSplitReader reader(records, blob.get(), size);
    MSB_TRY(tar_.add(blob_name(diff_id), size, reader).with_context(context));
    return size;
  }

  Status add_document(const std::string& digest, const std::string& text) {
    return written_.insert(digest).second ? tar_.add(blob_name(digest), text) : Status{};
  }

  struct Described {
    std::string digest, media_type;
    std::size_t size;
  };
  void name(const ImageRecord& image, const Described& manifest, const std::string& reference) {
    JsonWriter json;
    json.begin_object().field("mediaType", manifest.media_type).field("digest", manifest.digest);
    json.field("size", manifest.size);
    json.key("platform").begin_object().field("architecture", image.architecture).field("os", image.os);
    if (!image.variant.empty()) json.field("variant", image.variant);
    json.end_object();
    if (const auto parsed = parse_image_reference(reference); parsed.ok()) {
      json.key("annotations").begin_object().field("io.containerd.image.name", reference);
      if (!parsed->tag.empty()) json.field("org.opencontainers.image.ref.name", parsed->tag);
      json.end_object();
    }
    json.end_object();
    index_.push_back(std::move(json).take());
  }

  void docker(const ImageRecord& image, const std::vector<ImageLayer>& layers,
              const std::vector<std::string>& references) {
    std::vector<std::string> tags;
    for (const std::string& reference : references) {
      // A docker-archive knows no digests in names.
      const auto parsed = parse_image_reference(reference);
      if (parsed.ok() && parsed->digest.empty())
        tags.push_back(parsed->familiar() + (parsed->tag == "latest" ? ":latest" : ""));
    }
    std::vector<std::string> files;
    for (const ImageLayer& layer : layers) files.push_back(blob_name(layer.diff_id));
    JsonWriter json;
    json.begin_object().field("Config", blob_name(image.config_digest)).field("RepoTags", tags);
    json.field("Layers", files).end_object();
    docker_.push_back(std::move(json).take());
  }

  const Store& store_;
  Limits limits_;
  TarWriter tar_;
  std::set<std::string> written_;
  std::vector<std::string> index_, docker_;
};

}  // namespace

Status save_images(const Store& store, const std::vector<SavedImage>& images, int fd, const Limits& limits) {
  Saver saver(store, fd, limits);
  for (const SavedImage& image : images) MSB_TRY(saver.add(image));
  return saver.finish();
}

Status verify_layer(const Store& store, const std::string& diff_id, const Limits& limits) {
  const std::string hex = digest_hex(diff_id);
  MSB_ASSIGN(const UniqueFd split, open_at(store.images_fd(), split_path(hex), O_RDONLY));
  MSB_ASSIGN(const UniqueFd blob, open_at(store.images_fd(), layer_path(hex), O_RDONLY));
  FdStream records(split.get());
  TarSplitReader reader(records, blob.get(), limits.max_layer_bytes);
  Sha256Stream hash;
  for (;;) {
    MSB_ASSIGN(const ByteView piece, reader.read());
    if (piece.empty()) break;
    hash.update(piece);
  }
  if (hash.finish_hex() != hex)
    return make_error(Errc::kCorrupt, "layer %s: its content has changed", diff_id.c_str());
  return {};
}

}  // namespace msb::oci
