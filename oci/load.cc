// SPDX-License-Identifier: Apache-2.0
#include "oci/load.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <memory>

#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "oci/archive_contents.h"
#include "oci/decompress.h"
#include "oci/digest.h"
#include "oci/image.h"
#include "oci/layer_tree.h"
#include "oci/media_types.h"
#include "oci/tar_reader.h"

namespace msb::oci {
namespace {

constexpr int kMaxIndexDepth = 8;
constexpr int kMaxDirectoryDepth = 16;
constexpr std::size_t kMaxImages = 1024;

// The data of a tar entry as a source.
class EntrySource final : public ByteSource {
 public:
  explicit EntrySource(TarReader& reader) : reader_(reader) {}
  [[nodiscard]] Result<ByteView> read() override { return reader_.read_data(); }

 private:
  TarReader& reader_;
};

std::string blob_member(const std::string& digest) { return "blobs/sha256/" + digest_hex(digest); }

class Loader {
 public:
  Loader(const Store& store, const LoadOptions& options)
      : store_(store), options_(options), contents_(store, {options.limits, options.unpacker}) {}

  Status scan_stream(int fd) {
    FdStream file(fd);
    Decompressor plain(file);
    StreamSource source(plain);
    // The archive holds whole layers, so it may be as long as they are together.
    Limits outer = options_.limits;
    outer.max_layer_bytes = outer.max_image_bytes;
    outer.max_file_bytes = outer.max_layer_bytes;
    TarReader reader(source, outer);
    for (std::uint64_t members = 0;; ++members) {
      MSB_ASSIGN(const std::optional<TarEntry> entry, reader.next());
      if (!entry) return reader.drain();
      if (members >= options_.limits.max_archive_members)
        return make_error(Errc::kLimit, "an archive with more than %llu members",
                          static_cast<unsigned long long>(members));
      MSB_ASSIGN(const std::string name, clean_entry_path(entry->path));
      if (entry->sparse)
        return make_error(Errc::kUnsupported, "archive member \"%s\" is a sparse file",
                          quote_for_log(name).c_str());
      if (entry->kind == TarEntry::Kind::kFile) {
        EntrySource data(reader);
        SourceStream stream(data);
        MSB_TRY(contents_.add_file(name, stream));
      } else if (entry->kind == TarEntry::Kind::kSymlink || entry->kind == TarEntry::Kind::kHardLink) {
        const bool relative = entry->kind == TarEntry::Kind::kSymlink;
        if (const auto target = archive_link_target(relative ? name : "", entry->link))
          contents_.add_link(name, *target);
      }
    }
  }

  Status scan_directory(int fd, const std::string& prefix, int depth) {
    if (depth > kMaxDirectoryDepth)
      return make_error(Errc::kLimit, "the directory is nested deeper than %d", kMaxDirectoryDepth);
    MSB_ASSIGN(UniqueFd copy, open_at(fd, ".", O_RDONLY | O_DIRECTORY));
    const std::unique_ptr<DIR, int (*)(DIR*)> dir(::fdopendir(copy.get()), ::closedir);
    if (!dir) return sys_error("list the directory");
    (void)copy.release();
    while (const dirent* entry = ::readdir(dir.get())) {
      const std::string name = entry->d_name;
      if (name == "." || name == "..") continue;
      // What is not a plain file or directory is none of an image's.
      const UniqueFd child(::openat(fd, name.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
      if (!child) {
        if (errno == ELOOP) continue;
        return sys_error("open " + prefix + name);
      }
      struct stat st {};
      if (::fstat(child.get(), &st) != 0) return sys_error("stat " + prefix + name);
      if (S_ISDIR(st.st_mode)) MSB_TRY(scan_directory(child.get(), prefix + name + "/", depth + 1));
      if (!S_ISREG(st.st_mode)) continue;
      FdStream stream(child.get());
      MSB_TRY(contents_.add_file(prefix + name, stream));
    }
    return {};
  }

  Result<std::vector<LoadedImage>> finish() {
    const std::string* index = contents_.json("index.json");
    const std::string* docker = contents_.json("manifest.json");
    if (index == nullptr && docker == nullptr) {
      return make_error(Errc::kProtocol,
                        "neither index.json (OCI layout) nor manifest.json (docker-archive) is in it: not an "
                        "image archive");
    }
    if (docker != nullptr) MSB_TRY(read_docker_names(*docker));
    if (index != nullptr) {
      auto root = parse_manifest(*index, "");
      if (!root) return std::move(root).error().with_context("index.json");
      if (root->kind != Manifest::Kind::kIndex)
        return make_error(Errc::kProtocol, "index.json: it is not an index");
      for (const Descriptor& entry : root->entries) MSB_TRY(load_descriptor(entry, entry, 0));
    } else {
      for (const DockerImage& image : docker_) MSB_TRY(load_docker(image));
    }
    if (loaded_.empty())
      return make_error(Errc::kNotFound, "no image for %s is in the archive",
                        options_.platform.text().c_str());
    for (const ImageReference& tag : options_.tags) {
      MSB_TRY(publish_reference(store_, tag, loaded_.front().manifest_digest));
      loaded_.front().references.push_back(tag.canonical());
    }
    return std::move(loaded_);
  }

 private:
  struct DockerImage {
    std::string config;
    std::vector<std::string> tags, layers;
  };

  // manifest.json of a docker-archive: an array of {"Config", "RepoTags", "Layers"}.
  Status read_docker_names(const std::string& text) {
    auto document = JsonDocument::parse(text, {.max_bytes = kMaxConfigBytes});
    if (!document) return std::move(document).error().with_context("manifest.json");
    MSB_ASSIGN(const auto images, document->root().elements());
    if (images.size() > kMaxImages)
      return make_error(Errc::kLimit, "manifest.json: more than %zu images", kMaxImages);
    for (const JsonView& image : images) {
      DockerImage out;
      MSB_ASSIGN(out.config, image.get_string("Config"));
      MSB_ASSIGN(out.tags, image.get_strings_or_empty("RepoTags"));
      MSB_ASSIGN(out.layers, image.get_strings_or_empty("Layers"));
      docker_.push_back(std::move(out));
    }
    return {};
  }

  // The document with this digest, whose text must have it.
  Result<const std::string*> document(const std::string& digest) const {
    const std::string* text = contents_.json(blob_member(digest));
    if (text == nullptr) return make_error(Errc::kProtocol, "%s is not in the archive", digest.c_str());
    if (digest_of(as_bytes(*text)) != digest)
      return make_error(Errc::kProtocol, "%s has another content than its digest says", digest.c_str());
    return text;
  }

  Status load_descriptor(const Descriptor& descriptor, const Descriptor& named, int depth) {
    if (depth > kMaxIndexDepth)
      return make_error(Errc::kLimit, "indexes are nested deeper than %d", kMaxIndexDepth);
    if (descriptor.platform && depth == 0 && !platform_matches(options_.platform, *descriptor.platform))
      return {};
    MSB_ASSIGN(const std::string* text, document(descriptor.digest));
    auto manifest = parse_manifest(*text, descriptor.media_type);
    if (!manifest) return std::move(manifest).error().with_context(descriptor.digest);
    if (manifest->kind == Manifest::Kind::kIndex) {
      const Descriptor* chosen = choose_platform(*manifest, options_.platform);
      if (chosen == nullptr) return {};
      return load_descriptor(*chosen, named, depth + 1);
    }
    Image image;
    image.manifest_digest = descriptor.digest;
    image.manifest = *text;
    image.config_digest = manifest->config.digest;
    MSB_ASSIGN(const std::string* config, document(image.config_digest));
    image.raw_config = *config;
    for (const Descriptor& layer : manifest->layers) {
      const StagedLayer* staged = contents_.layer(blob_member(layer.digest));
      if (staged == nullptr)
        return make_error(Errc::kProtocol, "layer %s is not in the archive", layer.digest.c_str());
      if (staged->digest != layer.digest)
        return make_error(Errc::kProtocol, "layer %s has another content than its digest says",
                          layer.digest.c_str());
      image.layers.push_back({staged->diff_id, layer.digest, layer.media_type, layer.size});
    }
    return publish(image, oci_names(named, image.config_digest));
  }

  Status load_docker(const DockerImage& docker) {
    Image image;
    const std::string* config = contents_.json(docker.config);
    if (config == nullptr)
      return make_error(Errc::kProtocol, "config \"%s\" is not in the archive",
                        quote_for_log(docker.config).c_str());
    image.raw_config = *config;
    image.config_digest = digest_of(as_bytes(*config));
    for (const std::string& name : docker.layers) {
      const StagedLayer* staged = contents_.layer(name);
      if (staged == nullptr)
        return make_error(Errc::kProtocol, "layer \"%s\" is not in the archive", quote_for_log(name).c_str());
      image.layers.push_back({staged->diff_id, staged->digest, staged->media_type, staged->size});
    }
    image.manifest = make_manifest(image.config_digest, image.raw_config.size(), image.layers);
    image.manifest_digest = digest_of(as_bytes(image.manifest));
    return publish(image, docker.tags);
  }

  // Names of an image in an OCI layout: annotations, and what a manifest.json beside it says of the same
  // config.
  std::vector<std::string> oci_names(const Descriptor& named, const std::string& config_digest) const {
    std::vector<std::string> names;
    if (!named.image_name.empty()) {
      names.push_back(named.image_name);
    } else if (named.reference_name.find_first_of("/:") != std::string::npos) {
      names.push_back(named.reference_name);
    }
    for (const DockerImage& docker : docker_) {
      if (docker.config.find(digest_hex(config_digest)) == std::string::npos) continue;
      names.insert(names.end(), docker.tags.begin(), docker.tags.end());
    }
    return names;
  }

  Status publish(Image& image, const std::vector<std::string>& names) {
    auto config = parse_image_config(image.raw_config);
    if (!config) return std::move(config).error().with_context("config " + image.config_digest);
    image.config = std::move(config).value();
    if (image.layers.size() > options_.limits.max_layers)
      return make_error(Errc::kLimit, "an image with more than %u layers", options_.limits.max_layers);
    if (image.config.diff_ids.size() != image.layers.size())
      return make_error(Errc::kProtocol, "the config names %zu layers, the manifest %zu",
                        image.config.diff_ids.size(), image.layers.size());
    for (std::size_t i = 0; i < image.layers.size(); ++i) {
      if (image.layers[i].diff_id != image.config.diff_ids[i]) {
        return make_error(Errc::kProtocol, "layer %zu is %s, but the config says %s", i,
                          image.layers[i].diff_id.c_str(), image.config.diff_ids[i].c_str());
      }
    }
    MSB_TRY(publish_image(store_, image, options_.limits));
    LoadedImage loaded;
    loaded.manifest_digest = image.manifest_digest;
    for (const std::string& name : names) {
      MSB_ASSIGN(const ImageReference reference, parse_image_reference(name));
      if (std::find(loaded.references.begin(), loaded.references.end(), reference.canonical()) !=
          loaded.references.end())
        continue;
      MSB_TRY(publish_reference(store_, reference, image.manifest_digest));
      loaded.references.push_back(reference.canonical());
    }
    loaded_.push_back(std::move(loaded));
    return {};
  }

  const Store& store_;
  const LoadOptions& options_;
  ArchiveContents contents_;
  std::vector<DockerImage> docker_;
  std::vector<LoadedImage> loaded_;
};

}  // namespace

Result<std::vector<LoadedImage>> load_archive(const Store& store, int fd, const LoadOptions& options) {
  MSB_ASSIGN(const UniqueFd lock, store.lock(Store::Access::kAdd, true));
  store.sweep_temp();
  Loader loader(store, options);
  MSB_TRY(loader.scan_stream(fd));
  return loader.finish();
}

Result<std::vector<LoadedImage>> load_directory(const Store& store, int dir_fd, const LoadOptions& options) {
  MSB_ASSIGN(const UniqueFd lock, store.lock(Store::Access::kAdd, true));
  store.sweep_temp();
  Loader loader(store, options);
  MSB_TRY(loader.scan_directory(dir_fd, "", 0));
  return loader.finish();
}

}  // namespace msb::oci
