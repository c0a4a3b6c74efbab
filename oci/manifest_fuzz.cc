// SPDX-License-Identifier: Apache-2.0
// Manifests, indexes and image configs from registries and archives. What is accepted holds only digests that
// are safe as file names, whatever the first byte says the sender called it.
#include <array>
#include <cstdint>
#include <string_view>

#include "base/bytes.h"
#include "base/check.h"
#include "base/image_reference.h"
#include "oci/image.h"
#include "oci/manifest.h"
#include "oci/media_types.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace msb::oci;
  if (size == 0) return 0;
  constexpr std::array<std::string_view, 5> kTypes = {"", kOciIndex, kOciManifest, kDockerList,
                                                      kDockerManifest};
  const std::string_view text = msb::as_text({data + 1, size - 1});
  if (const auto manifest = parse_manifest(text, kTypes[data[0] % kTypes.size()]); manifest.ok()) {
    const bool is_index = manifest->kind == Manifest::Kind::kIndex;
    MSB_CHECK(is_index ? manifest->layers.empty() : manifest->entries.empty());
    if (!is_index) MSB_CHECK(msb::is_sha256_digest(manifest->config.digest));
    for (const Descriptor& layer : manifest->layers) MSB_CHECK(msb::is_sha256_digest(layer.digest));
    for (const Descriptor& entry : manifest->entries) MSB_CHECK(msb::is_sha256_digest(entry.digest));
    const Descriptor* chosen = choose_platform(*manifest, host_platform());
    MSB_CHECK(chosen == nullptr || !manifest->entries.empty());
    MSB_CHECK(offered_platforms(*manifest).size() < 1024);
  }
  if (const auto config = parse_image_config(text); config.ok()) {
    for (const std::string& id : config->diff_ids) MSB_CHECK(msb::is_sha256_digest(id));
  }
  return 0;
}
