// SPDX-License-Identifier: Apache-2.0
// Images as the store knows them: the parts of manifests and configs (OCI image specification; Docker schema
// 2) that matter here, and the records that programs read to start sandboxes.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/image_reference.h"
#include "base/result.h"
#include "oci/limits.h"
#include "oci/store.h"

namespace msb::oci {

// The image config, hostile JSON brought into types.
struct ImageConfig {
  std::string os = "linux";
  std::string architecture;
  std::string variant;
  std::string created;  // RFC 3339, as it stands
  std::vector<std::string> env, cmd, entrypoint;
  std::string workdir, user, stop_signal;
  std::vector<std::pair<std::string, std::string>> labels;
  std::vector<std::string> exposed_ports, volumes;
  std::vector<std::string> diff_ids;  // "sha256:<hex>", lowest layer first
};
[[nodiscard]] Result<ImageConfig> parse_image_config(std::string_view json);

struct ImageLayer {
  std::string diff_id;  // "sha256:<hex>" of the uncompressed tar
  std::string digest;   // of the blob as it came; the diff id if it came uncompressed
  std::string media_type;
  std::uint64_t size = 0;  // of that blob
};

// A root that came as a disk image instead of layers.
struct ImageDisk {
  std::string id_hex;       // its name in the store
  std::string file_system;  // as mount(2) names it
};

// Everything about one image once all its layers, or its disk, are in the store.
struct Image {
  std::string manifest_digest;
  std::string manifest;  // raw JSON, whose digest that is
  std::string config_digest;
  std::string raw_config;
  ImageConfig config;
  std::vector<ImageLayer> layers;
  std::optional<ImageDisk> disk;  // then there are no layers
};

// Merges the layers (all present in `store`) unless an image with the same layers was merged before, and
// publishes manifest, config and the image's record. The caller holds the store's shared lock.
[[nodiscard]] Status publish_image(const Store& store, const Image& image, const Limits& limits);
// Makes `reference` mean that image, whatever it meant before.
[[nodiscard]] Status publish_reference(const Store& store, const ImageReference& reference,
                                       const std::string& manifest_digest);

// "images/manifests/<hex>.json", relative to the home directory.
[[nodiscard]] std::string record_path(const std::string& manifest_digest);
// Name of the merged metadata of an image with these layers.
[[nodiscard]] std::string metadata_name(const std::vector<std::string>& diff_ids);

// A minimal OCI manifest for images that come without one (docker-archive): same layers, same text, same
// digest.
[[nodiscard]] std::string make_manifest(const std::string& config_digest, std::uint64_t config_size,
                                        const std::vector<ImageLayer>& layers);

}  // namespace msb::oci
