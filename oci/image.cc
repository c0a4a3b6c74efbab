// SPDX-License-Identifier: Apache-2.0
#include "oci/image.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <ctime>

#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "base/sha256.h"
#include "oci/digest.h"
#include "oci/erofs_reader.h"
#include "oci/erofs_writer.h"
#include "oci/mapped_file.h"
#include "oci/media_types.h"
#include "oci/merge.h"

namespace msb::oci {
namespace {

// Part of the metadata's name: raised when the writer lays things out in another way.
constexpr std::string_view kLayoutVersion = "msb-erofs-1";
constexpr std::size_t kMaxUuidBytes = 16;
constexpr std::string_view kLayersFileSystem = "erofs";

Status keys_of(const JsonView& object, std::string_view key, std::vector<std::string>& out) {
  const auto value = object.find(key);
  if (!value) return {};
  MSB_ASSIGN(const auto members, value->members());
  for (const auto& [name, unused] : members) out.emplace_back(name);
  return {};
}

Status write_metadata(const Store& store, const std::vector<std::string>& diff_ids, const std::string& path,
                      const Limits& limits) {
  MSB_ASSIGN(const TempFile scratch, store.make_temp());
  Tree tree(limits, scratch.fd());
  Merger merger(tree);
  std::vector<std::uint64_t> layer_blocks;
  for (std::size_t i = 0; i < diff_ids.size(); ++i) {
    MSB_ASSIGN(const MappedFile blob,
               MappedFile::open(store.images_fd(), layer_path(digest_hex(diff_ids[i]))));
    auto reader = erofs::Reader::open(blob.view());
    if (!reader) return std::move(reader).error().with_context("layer " + diff_ids[i]);
    const Status merged = merger.add_layer(*reader, static_cast<std::uint16_t>(i));
    if (!merged.ok()) return Error(merged.error()).with_context("layer " + diff_ids[i]);
    layer_blocks.push_back(blob.view().size() / erofs::kBlockSize);
  }
  erofs::Writer writer(tree);
  MSB_TRY(writer.plan());
  erofs::Writer::Disk disk;
  std::uint64_t next = std::uint64_t{disk.meta_block} + writer.metadata_blocks();
  const std::uint64_t own_blocks = next;
  std::vector<std::uint32_t> bases;
  for (const std::uint64_t blocks : layer_blocks) {
    bases.push_back(static_cast<std::uint32_t>(next));
    next += blocks;
    if (next >= kNone || next * erofs::kBlockSize > limits.max_image_bytes) {
      return make_error(Errc::kLimit, "the image takes more than %llu bytes",
                        static_cast<unsigned long long>(limits.max_image_bytes));
    }
  }
  disk.total_blocks = static_cast<std::uint32_t>(next);
  disk.layer_base = bases;
  const Sha256Sum sum = sha256(as_bytes(path));
  std::memcpy(disk.uuid.data(), sum.data(), kMaxUuidBytes);
  MSB_ASSIGN(TempFile file, store.make_temp());
  MSB_TRY(writer.write(file.fd(), erofs::kBlockSize, disk));
  if (::ftruncate(file.fd(), static_cast<off_t>(own_blocks * erofs::kBlockSize)) != 0)
    return sys_error("set the length of an image's metadata");
  return store.publish(std::move(file), path);
}

void write_config(JsonWriter& json, const ImageConfig& config) {
  json.key("config").begin_object();
  json.field("env", config.env).field("cmd", config.cmd).field("entrypoint", config.entrypoint);
  json.field("workdir", config.workdir).field("user", config.user).field("stop_signal", config.stop_signal);
  json.key("labels").begin_object();
  for (const auto& [name, value] : config.labels) json.field(name, value);
  json.end_object();
  json.field("exposed_ports", config.exposed_ports).field("volumes", config.volumes);
  json.end_object();
}

std::vector<std::string> diff_ids_of(const Image& image) {
  std::vector<std::string> ids;
  for (const ImageLayer& layer : image.layers) ids.push_back(layer.diff_id);
  return ids;
}

// A file below images/ that is a part of the root disk.
struct RootFile {
  std::string path;
  std::uint64_t size = 0;
};

// All of them in order: the disk, or the merged metadata (made if it is not there) and the layers.
Result<std::vector<RootFile>> root_files(const Store& store, const Image& image, const Limits& limits) {
  std::vector<RootFile> files;
  if (image.disk) {
    files.push_back({disk_path(image.disk->id_hex)});
  } else {
    const std::vector<std::string> diff_ids = diff_ids_of(image);
    const std::string metadata = metadata_name(diff_ids);
    MSB_ASSIGN(const UniqueFd lock, store.lock_name("metadata-" + sha256_hex(metadata)));
    if (!store.has(metadata)) MSB_TRY(write_metadata(store, diff_ids, metadata, limits));
    files.push_back({metadata});
    for (const std::string& id : diff_ids) files.push_back({layer_path(digest_hex(id))});
  }
  for (RootFile& file : files) {
    const auto usage = store.usage(file.path);
    if (!usage) return make_error(Errc::kCorrupt, "%s has vanished from the image store", file.path.c_str());
    file.size = usage->size;
  }
  return files;
}

}  // namespace

Result<ImageConfig> parse_image_config(std::string_view text) {
  MSB_ASSIGN(const JsonDocument document, JsonDocument::parse(text, {.max_bytes = kMaxConfigBytes}));
  const JsonView root = document.root();
  ImageConfig config;
  MSB_ASSIGN(config.os, root.get_string_or("os", "linux"));
  MSB_ASSIGN(config.architecture, root.get_string_or("architecture", ""));
  MSB_ASSIGN(config.variant, root.get_string_or("variant", ""));
  MSB_ASSIGN(config.created, root.get_string_or("created", ""));
  if (const auto inner = root.find("config")) {
    MSB_ASSIGN(config.env, inner->get_strings_or_empty("Env"));
    MSB_ASSIGN(config.cmd, inner->get_strings_or_empty("Cmd"));
    MSB_ASSIGN(config.entrypoint, inner->get_strings_or_empty("Entrypoint"));
    MSB_ASSIGN(config.workdir, inner->get_string_or("WorkingDir", ""));
    MSB_ASSIGN(config.user, inner->get_string_or("User", ""));
    MSB_ASSIGN(config.stop_signal, inner->get_string_or("StopSignal", ""));
    if (const auto labels = inner->find("Labels")) {
      MSB_ASSIGN(const auto members, labels->members());
      for (const auto& [name, value] : members) {
        MSB_ASSIGN(const std::string_view label, value.as_string());
        config.labels.emplace_back(name, label);
      }
    }
    MSB_TRY(keys_of(*inner, "ExposedPorts", config.exposed_ports));
    MSB_TRY(keys_of(*inner, "Volumes", config.volumes));
  }
  MSB_ASSIGN(const JsonView rootfs, root.at("rootfs"));
  MSB_ASSIGN(config.diff_ids, rootfs.get_strings_or_empty("diff_ids"));
  for (const std::string& id : config.diff_ids) {
    if (!is_sha256_digest(id)) return make_error(Errc::kProtocol, "rootfs.diff_ids: not a sha256 digest");
  }
  return config;
}

std::string record_path(const std::string& manifest_digest) {
  return "images/manifests/" + digest_hex(manifest_digest) + ".json";
}

std::string metadata_name(const std::vector<std::string>& diff_ids) {
  std::string text(kLayoutVersion);
  for (const std::string& id : diff_ids) text += "\n" + id;
  return "metadata/" + sha256_hex(text) + ".erofs";
}

std::string make_manifest(const std::string& config_digest, std::uint64_t config_size,
                          const std::vector<ImageLayer>& layers) {
  JsonWriter json;
  json.begin_object().field("schemaVersion", 2).field("mediaType", kOciManifest);
  json.key("config")
      .begin_object()
      .field("mediaType", kOciConfig)
      .field("digest", config_digest)
      .field("size", config_size)
      .end_object();
  json.key("layers").begin_array();
  for (const ImageLayer& layer : layers) {
    json.begin_object()
        .field("mediaType", layer.media_type)
        .field("digest", layer.digest)
        .field("size", layer.size)
        .end_object();
  }
  json.end_array().end_object();
  return std::move(json).take();
}

Status publish_image(const Store& store, const Image& image, const Limits& limits) {
  MSB_ASSIGN(const std::vector<RootFile> root, root_files(store, image, limits));
  MSB_TRY(store.put("blobs", digest_hex(image.manifest_digest), image.manifest));
  MSB_TRY(store.put("blobs", digest_hex(image.config_digest), image.raw_config));

  JsonWriter json(JsonWriter::Style::kPretty);
  json.begin_object()
      .field("version", 1)
      .field("manifest_digest", image.manifest_digest)
      .field("config_digest", image.config_digest);
  json.field("os", image.config.os)
      .field("architecture", image.config.architecture)
      .field("variant", image.config.variant);
  json.field("created", image.config.created).field("loaded_ns", wall_clock_ns());
  write_config(json, image.config);
  json.key("root").begin_object();
  json.field("file_system", image.disk ? std::string_view(image.disk->file_system) : kLayersFileSystem);
  json.key("extents").begin_array();
  std::uint64_t total = 0;
  for (const RootFile& file : root) {
    json.begin_object().field("path", "images/" + file.path).field("offset", 0);
    json.field("length", file.size).end_object();
    total += file.size;
  }
  json.end_array().end_object();
  std::uint64_t compressed = 0;
  json.key("layers").begin_array();
  for (std::size_t i = 0; i < image.layers.size(); ++i) {
    const ImageLayer& layer = image.layers[i];
    json.begin_object()
        .field("diff_id", layer.diff_id)
        .field("digest", layer.digest)
        .field("media_type", layer.media_type);
    json.field("size", layer.size).field("erofs_size", root[i + 1].size).end_object();
    compressed += layer.size;
  }
  json.end_array().field("size", compressed).field("root_size", total).end_object();
  return store.put("manifests", digest_hex(image.manifest_digest) + ".json", std::move(json).take());
}

Status publish_reference(const Store& store, const ImageReference& reference,
                         const std::string& manifest_digest) {
  JsonWriter json;
  json.begin_object().field("version", 1).field("reference", reference.canonical());
  json.field("manifest_digest", manifest_digest).field("image", record_path(manifest_digest)).end_object();
  return store.put("refs", reference.key() + ".json", std::move(json).take());
}

}  // namespace msb::oci
