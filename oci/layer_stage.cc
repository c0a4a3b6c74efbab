// SPDX-License-Identifier: Apache-2.0
#include "oci/layer_stage.h"

#include "oci/unpack_process.h"

namespace msb::oci {

Result<LayerSummary> stage_layer(const Store& store, ByteStream& input, const std::string& wanted,
                                 const StageOptions& options) {
  MSB_ASSIGN(TempFile blob, store.make_temp());
  MSB_ASSIGN(TempFile split, store.make_temp());
  MSB_ASSIGN(const TempFile scratch, store.make_temp());
  const LayerFiles files{blob.fd(), split.fd(), scratch.fd()};
  MSB_ASSIGN(LayerSummary summary, options.unpacker.empty() ? unpack_layer(input, files, options.limits)
                                                            : unpack_layer_confined(options.unpacker, input,
                                                                                    files, options.limits));
  if (!wanted.empty() && summary.diff_id_hex != wanted) {
    return make_error(Errc::kProtocol,
                      "the layer is not the one its image names: sha256:%s instead of sha256:%s",
                      summary.diff_id_hex.c_str(), wanted.c_str());
  }
  MSB_ASSIGN(const UniqueFd lock, store.lock_name("layer-" + summary.diff_id_hex));
  if (!store.has(layer_path(summary.diff_id_hex))) {
    // The blob last: its name says that both are there.
    MSB_TRY(store.publish(std::move(split), split_path(summary.diff_id_hex)));
    MSB_TRY(store.publish(std::move(blob), layer_path(summary.diff_id_hex)));
  }
  return summary;
}

}  // namespace msb::oci
