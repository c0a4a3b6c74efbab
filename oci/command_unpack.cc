// SPDX-License-Identifier: Apache-2.0
// msb-image unpack-layer, unpack-disk: the child's side of unpack_process.h.
#include "base/file.h"
#include "oci/commands.h"
#include "oci/unpack_process.h"

namespace msb::oci {

Result<std::string> unpacker_path() {
  MSB_ASSIGN(const std::string self, executable_path());
  return parent_path(self) + "/msb-image";
}

Status unpack_layer_command(const Arguments& arguments) {
  Options options("unpack-layer");
  Limits limits;
  add_limit_options(options, limits);
  MSB_TRY(options.parse(arguments));
  return run_unpack_process(limits);
}

Status unpack_disk_command(const Arguments& arguments) {
  Options options("unpack-disk");
  Limits limits;
  add_limit_options(options, limits);
  MSB_TRY(options.parse(arguments));
  return run_unpack_disk_process(limits);
}

}  // namespace msb::oci
