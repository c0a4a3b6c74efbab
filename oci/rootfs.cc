// SPDX-License-Identifier: Apache-2.0
#include "oci/rootfs.h"

#include "base/json.h"
#include "oci/digest.h"
#include "oci/image.h"
#include "oci/layer_stage.h"
#include "oci/media_types.h"

namespace msb::oci {
namespace {

constexpr std::string_view kPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

std::string config_of(const Platform& platform, const std::string& diff_id) {
  JsonWriter json;
  json.begin_object().field("architecture", platform.architecture).field("os", platform.os);
  if (!platform.variant.empty()) json.field("variant", platform.variant);
  json.key("config").begin_object().field("Env", std::vector<std::string>{std::string(kPath)});
  json.field("Cmd", std::vector<std::string>{"/bin/sh"}).end_object();
  json.key("rootfs").begin_object().field("type", "layers");
  json.field("diff_ids", std::vector<std::string>{diff_id}).end_object().end_object();
  return std::move(json).take();
}

}  // namespace

Result<LoadedImage> load_rootfs(const Store& store, int fd, const ImageReference& reference,
                                const LoadOptions& options) {
  MSB_ASSIGN(const UniqueFd lock, store.lock(Store::Access::kAdd, true));
  store.sweep_temp();
  FdStream input(fd);
  MSB_ASSIGN(const LayerSummary layer, stage_layer(store, input, "", {options.limits, options.unpacker}));
  if (layer.entries == 0) return make_error(Errc::kProtocol, "the archive holds no files");
  const std::string diff_id = "sha256:" + layer.diff_id_hex;
  Image image;
  image.raw_config = config_of(options.platform, diff_id);
  MSB_ASSIGN(image.config, parse_image_config(image.raw_config));
  image.config_digest = digest_of(as_bytes(image.raw_config));
  image.layers = {{diff_id, diff_id, std::string(kOciLayer), layer.tar_bytes}};
  image.manifest = make_manifest(image.config_digest, image.raw_config.size(), image.layers);
  image.manifest_digest = digest_of(as_bytes(image.manifest));
  MSB_TRY(publish_image(store, image, options.limits));
  MSB_TRY(publish_reference(store, reference, image.manifest_digest));
  return LoadedImage{{reference.canonical()}, image.manifest_digest};
}

}  // namespace msb::oci
