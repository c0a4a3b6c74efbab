// SPDX-License-Identifier: Apache-2.0
#include "oci/rootfs.h"

#include "base/json.h"
#include "oci/digest.h"
#include "oci/image.h"
#include "oci/layer_stage.h"
#include "oci/media_types.h"
#include "oci/unpack_process.h"

namespace msb::oci {
namespace {

constexpr std::string_view kPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

// `disk_id` makes the configs of different disks differ, which no layers do.
std::string config_of(const Platform& platform, const std::vector<std::string>& diff_ids,
                      const std::string& disk_id) {
  JsonWriter json;
  json.begin_object().field("architecture", platform.architecture).field("os", platform.os);
  if (!platform.variant.empty()) json.field("variant", platform.variant);
  json.key("config").begin_object().field("Env", std::vector<std::string>{std::string(kPath)});
  json.field("Cmd", std::vector<std::string>{"/bin/sh"}).end_object();
  json.key("rootfs").begin_object().field("type", disk_id.empty() ? "layers" : "disk");
  if (!disk_id.empty()) json.field("disk", disk_id);
  json.field("diff_ids", diff_ids).end_object().end_object();
  return std::move(json).take();
}

// Fills in what follows from config, layers and disk, and publishes it all under that name.
Result<LoadedImage> publish(const Store& store, Image& image, const ImageReference& reference,
                            const Limits& limits) {
  MSB_ASSIGN(image.config, parse_image_config(image.raw_config));
  image.config_digest = digest_of(as_bytes(image.raw_config));
  image.manifest = make_manifest(image.config_digest, image.raw_config.size(), image.layers);
  image.manifest_digest = digest_of(as_bytes(image.manifest));
  MSB_TRY(publish_image(store, image, limits));
  MSB_TRY(publish_reference(store, reference, image.manifest_digest));
  return LoadedImage{{reference.canonical()}, image.manifest_digest};
}

}  // namespace

Result<LoadedImage> load_rootfs(const Store& store, ByteStream& input, const ImageReference& reference,
                                const LoadOptions& options) {
  MSB_ASSIGN(const UniqueFd lock, store.lock(Store::Access::kAdd, true));
  store.sweep_temp();
  MSB_ASSIGN(const LayerSummary layer, stage_layer(store, input, "", {options.limits, options.unpacker}));
  if (layer.entries == 0) return make_error(Errc::kProtocol, "the archive holds no files");
  const std::string diff_id = "sha256:" + layer.diff_id_hex;
  Image image;
  image.raw_config = config_of(options.platform, {diff_id}, "");
  image.layers = {{diff_id, diff_id, std::string(kOciLayer), layer.tar_bytes}};
  return publish(store, image, reference, options.limits);
}

Result<LoadedImage> load_disk(const Store& store, int fd, const ImageReference& reference,
                              const LoadOptions& options) {
  MSB_ASSIGN(const UniqueFd lock, store.lock(Store::Access::kAdd, true));
  store.sweep_temp();
  MSB_ASSIGN(TempFile file, store.make_temp());
  MSB_ASSIGN(const DiskSummary disk,
             options.unpacker.empty()
                 ? unpack_disk(fd, file.fd(), options.limits)
                 : unpack_disk_confined(options.unpacker, fd, file.fd(), options.limits));
  {
    MSB_ASSIGN(const UniqueFd name_lock, store.lock_name("disk-" + disk.id_hex));
    if (!store.has(disk_path(disk.id_hex))) MSB_TRY(store.publish(std::move(file), disk_path(disk.id_hex)));
  }
  Image image;
  image.raw_config = config_of(options.platform, {}, disk.id_hex);
  image.disk = ImageDisk{disk.id_hex, disk.file_system};
  return publish(store, image, reference, options.limits);
}

}  // namespace msb::oci
