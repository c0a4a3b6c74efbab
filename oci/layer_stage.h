// SPDX-License-Identifier: Apache-2.0
// A layer brought from a stream into the store.
#pragma once

#include <string>

#include "base/result.h"
#include "oci/byte_stream.h"
#include "oci/limits.h"
#include "oci/store.h"
#include "oci/unpack.h"

namespace msb::oci {

struct StageOptions {
  Limits limits;
  std::string unpacker;  // msb-image, to unpack in a confined process (unpack_process.h); empty: in this one
};

// Unpacks `input` and publishes the layer under the diff id it turns out to have. If `wanted_diff_id_hex` is
// not empty, any other id is kProtocol and nothing is published. The caller holds the store's shared lock.
[[nodiscard]] Result<LayerSummary> stage_layer(const Store& store, ByteStream& input,
                                               const std::string& wanted_diff_id_hex,
                                               const StageOptions& options);

}  // namespace msb::oci
