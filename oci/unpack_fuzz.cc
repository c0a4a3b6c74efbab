// SPDX-License-Identifier: Apache-2.0
// A layer from anywhere must end in a refusal or in a blob that reads back whole and merges, with a record
// that gives the same stream again. Limits are small so that no input can ask for much.
#include <cstdint>

#include "base/check.h"
#include "oci/digest.h"
#include "oci/testing/layers.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  msb::oci::Limits limits;
  limits.max_layer_bytes = 1U << 22;
  limits.max_image_bytes = 1U << 24;
  limits.max_entries = 2000;
  limits.max_text_bytes = 1U << 20;
  limits.max_xattr_bytes = 1U << 20;
  limits.max_chunks = 1U << 18;
  const auto layer = msb::oci::testing::unpack({data, size}, limits);
  if (!layer.ok()) return 0;
  const auto files = msb::oci::testing::list_all(layer->blob);
  MSB_CHECK(files.ok() || files.error().code == msb::Errc::kLimit);  // a bound of the test's own
  const auto again = msb::oci::testing::rebuild(*layer);
  MSB_CHECK(again.ok());
  MSB_CHECK(msb::oci::digest_of(msb::as_bytes(*again)) == "sha256:" + layer->summary.diff_id_hex);
  return 0;
}
