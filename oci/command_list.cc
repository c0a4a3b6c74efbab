// SPDX-License-Identifier: Apache-2.0
// msb-image ls, inspect, tag: what is in the store, and its names.
#include <algorithm>
#include <cstdio>

#include "base/clock.h"
#include "base/image_reference.h"
#include "base/json.h"
#include "oci/catalog.h"
#include "oci/commands.h"
#include "oci/digest.h"
#include "oci/output.h"

namespace msb::oci {
namespace {

constexpr std::size_t kShortDigest = 12;

void warn_of_damage(const Catalog& catalog) {
  for (const std::string& file : catalog.damaged)
    std::fprintf(stderr, "msb-image: images/%s cannot be read\n", file.c_str());
}

// Bytes on the disk of all the image's files, shared or not.
std::uint64_t disk_use(const Store& store, const ImageRecord& image) {
  std::uint64_t total = 0;
  for (const std::string& file : files_of(image)) {
    if (const auto usage = store.usage(file)) total += usage->disk;
  }
  return total;
}

std::vector<std::string> users_of(const Catalog& catalog, const ImageRecord& image) {
  const auto users = catalog.users.find(image.manifest_digest);
  return users == catalog.users.end() ? std::vector<std::string>{}
                                      : std::vector<std::string>(users->second.begin(), users->second.end());
}

void write_summary(JsonWriter& json, const Store& store, const Catalog& catalog, const ImageRecord& image) {
  json.field("manifest_digest", image.manifest_digest).field("config_digest", image.config_digest);
  json.field("references", catalog.names_of(image.manifest_digest));
  json.field("os", image.os).field("architecture", image.architecture).field("variant", image.variant);
  json.field("created", image.created).field("loaded_ns", image.loaded_ns);
  json.field("compressed_bytes", image.size).field("root_bytes", image.root_size);
  json.field("disk_bytes", disk_use(store, image)).field("used_by", users_of(catalog, image));
}

std::string short_digest(const std::string& digest) { return digest_hex(digest).substr(0, kShortDigest); }

}  // namespace

Status list_command(const Arguments& arguments) {
  Options options("ls [-q] [--json]");
  bool quiet = false;
  bool json_output = false;
  options.flag("quiet", quiet, "q");
  options.flag("json", json_output);
  MSB_TRY(options.parse(arguments));
  if (!options.positional().empty()) return make_error(Errc::kInvalid, "ls takes no arguments");
  MSB_ASSIGN(const Store store, open_store());
  MSB_ASSIGN(const Catalog catalog, read_catalog(store));
  warn_of_damage(catalog);
  std::vector<const ImageRecord*> images;
  for (const auto& [digest, image] : catalog.images) images.push_back(&image);
  std::stable_sort(images.begin(), images.end(),
                   [](const ImageRecord* a, const ImageRecord* b) { return a->loaded_ns > b->loaded_ns; });
  if (json_output) {
    JsonWriter json(JsonWriter::Style::kPretty);
    json.begin_array();
    for (const ImageRecord* image : images) {
      json.begin_object();
      write_summary(json, store, catalog, *image);
      json.end_object();
    }
    json.end_array();
    std::printf("%s\n", std::move(json).take().c_str());
    return {};
  }
  std::vector<std::vector<std::string>> rows;
  if (!quiet) rows.push_back({"IMAGE", "ID", "PLATFORM", "LOADED", "SIZE", "USED BY"});
  for (const ImageRecord* image : images) {
    std::vector<std::string> names = catalog.names_of(image->manifest_digest);
    if (names.empty()) names.emplace_back("");
    for (const std::string& name : names) {
      const auto reference = parse_image_reference(name);
      const std::string shown = reference ? reference->familiar() : "<none>";
      if (quiet) {
        rows.push_back({name.empty() ? image->manifest_digest : shown});
        continue;
      }
      const std::size_t users = users_of(catalog, *image).size();
      rows.push_back({shown, short_digest(image->manifest_digest), image->os + "/" + image->architecture,
                      format_age(image->loaded_ns, wall_clock_ns()), format_bytes(image->root_size),
                      users == 0 ? "-" : std::to_string(users) + (users == 1 ? " sandbox" : " sandboxes")});
    }
  }
  std::fputs(format_columns(rows).c_str(), stdout);
  return {};
}

Status inspect_command(const Arguments& arguments) {
  Options options("inspect IMAGE...");
  bool json_output = false;  // the only form there is
  options.flag("json", json_output);
  MSB_TRY(options.parse(arguments));
  if (options.positional().empty()) return make_error(Errc::kInvalid, "usage: msb image inspect IMAGE...");
  MSB_ASSIGN(const Store store, open_store());
  MSB_ASSIGN(const Catalog catalog, read_catalog(store));
  JsonWriter json(JsonWriter::Style::kPretty);
  json.begin_array();
  for (const std::string& text : options.positional()) {
    MSB_ASSIGN(const ImageRecord* image, find_image(catalog, text));
    json.begin_object();
    write_summary(json, store, catalog, *image);
    if (!image->config.empty()) json.key("config").raw(image->config);
    json.key("layers").begin_array();
    for (const ImageLayer& layer : image->layers) {
      const auto usage = store.usage(layer_path(digest_hex(layer.diff_id)));
      json.begin_object().field("diff_id", layer.diff_id).field("digest", layer.digest);
      json.field("media_type", layer.media_type).field("compressed_bytes", layer.size);
      json.field("disk_bytes", usage ? usage->disk : 0).end_object();
    }
    json.end_array().end_object();
  }
  json.end_array();
  std::printf("%s\n", std::move(json).take().c_str());
  return {};
}

Status tag_command(const Arguments& arguments) {
  Options options("tag IMAGE NAME");
  MSB_TRY(options.parse(arguments));
  if (options.positional().size() != 2) return make_error(Errc::kInvalid, "usage: msb image tag IMAGE NAME");
  MSB_ASSIGN(const ImageReference name, parse_image_reference(options.positional()[1]));
  if (!name.digest.empty()) return make_error(Errc::kInvalid, "tag: a new name cannot hold a digest");
  MSB_ASSIGN(const Store store, open_store());
  MSB_ASSIGN(const UniqueFd lock, store.lock(Store::Access::kAdd, true));
  MSB_ASSIGN(const Catalog catalog, read_catalog(store));
  MSB_ASSIGN(const ImageRecord* image, find_image(catalog, options.positional()[0]));
  return publish_reference(store, name, image->manifest_digest);
}

}  // namespace msb::oci
