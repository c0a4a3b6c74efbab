// SPDX-License-Identifier: Apache-2.0
// Archives: whatever a stream claims to be ends in a refusal or in a store whose catalog reads whole and
// whose layers are what they are named. The store is one directory in memory where there is one, used over
// and over.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <string>

#include "base/check.h"
#include "base/file.h"
#include "base/unique_fd.h"
#include "oci/catalog.h"
#include "oci/collect.h"
#include "oci/load.h"
#include "oci/save.h"

namespace {

const msb::oci::Store& store() {
  static const msb::oci::Store opened = [] {
    std::string home =
        (::access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp") + std::string("/msb-load-fuzz.XXXXXX");
    MSB_CHECK(::mkdtemp(home.data()) != nullptr);
    static std::string at_exit;
    at_exit = home;
    std::atexit([] { (void)msb::remove_tree(AT_FDCWD, at_exit).ok(); });
    auto result = msb::oci::Store::open(home);
    MSB_CHECK(result.ok());
    return std::move(result).value();
  }();
  return opened;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const msb::UniqueFd input(::memfd_create("archive", MFD_CLOEXEC));
  MSB_CHECK(input.valid() && msb::pwrite_exact(input.get(), {data, size}, 0).ok());
  msb::oci::LoadOptions options;
  options.limits.max_layer_bytes = 1U << 22;
  options.limits.max_image_bytes = 1U << 24;
  options.limits.max_entries = 2000;
  options.limits.max_archive_members = 100;
  const auto loaded = msb::oci::load_archive(store(), input.get(), options);
  const auto catalog = msb::oci::read_catalog(store());
  MSB_CHECK(catalog.ok() && catalog->damaged.empty());
  if (loaded.ok()) {
    MSB_CHECK(!loaded->empty());
    for (const auto& image : *loaded) {
      const auto& record = catalog->images.at(image.manifest_digest);
      for (const auto& layer : record.layers)
        MSB_CHECK(msb::oci::verify_layer(store(), layer.diff_id, options.limits).ok());
    }
  }
  const auto removal = msb::oci::plan_prune(store(), *catalog, {.all = true});
  MSB_CHECK(removal.ok() && msb::oci::carry_out(store(), *removal).ok());
  return 0;
}
