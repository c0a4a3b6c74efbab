// SPDX-License-Identifier: Apache-2.0
// An image from a registry into the store.
//
// Theory of operation. The manifest decides what is needed; layers that the store has (by diff id, whatever
// image brought them) are not fetched. The rest come in parallel, each through one chain without a stop on
// the disk: connection -> digest of what came -> confined unpacker (inflate, diff id, tar, EROFS). One
// process at a time fetches a layer: others wait for it and find it done. A reference is published last.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/image_reference.h"
#include "base/result.h"
#include "oci/layer_stage.h"
#include "oci/manifest.h"
#include "oci/registry/credentials.h"
#include "oci/registry/progress.h"
#include "oci/registry/registry_config.h"
#include "oci/store.h"

namespace msb::oci {

struct PullOptions {
  Platform platform = host_platform();
  StageOptions stage;
  int retries = 5;
  unsigned parallel = 3;  // layers at a time
};
struct PulledImage {
  std::string manifest_digest;
  bool fetched = false;  // false: all was there
};
// A place to ask, and who we are there.
struct PullSource {
  Endpoint endpoint;
  std::optional<Credentials> credentials;
};
// Mirrors first, the registry itself last. May run credential helpers, so it comes before confinement.
[[nodiscard]] Result<std::vector<PullSource>> pull_sources(const std::string& home,
                                                           const RegistryConfig& config,
                                                           const ImageReference& reference);

// A mirror that fails in any way is passed over. The caller holds the store's shared lock.
[[nodiscard]] Result<PulledImage> pull_image(const Store& store, const ImageReference& reference,
                                             const std::vector<PullSource>& sources,
                                             const PullOptions& options, Progress& progress);

}  // namespace msb::oci
