// SPDX-License-Identifier: Apache-2.0
// The commands of msb-image. Each takes the arguments after its name and does its own output; a returned
// error is printed by main.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "oci/limits.h"
#include "oci/options.h"
#include "oci/store.h"

namespace msb::oci {

using Arguments = std::vector<std::string>;

[[nodiscard]] Status load_command(const Arguments& arguments);
[[nodiscard]] Status unpack_layer_command(const Arguments& arguments);
[[nodiscard]] Status unpack_disk_command(const Arguments& arguments);
[[nodiscard]] Status mkfs_upper_command(const Arguments& arguments);
[[nodiscard]] Status list_command(const Arguments& arguments);
[[nodiscard]] Status inspect_command(const Arguments& arguments);
[[nodiscard]] Status tag_command(const Arguments& arguments);
[[nodiscard]] Status remove_command(const Arguments& arguments);
[[nodiscard]] Status prune_command(const Arguments& arguments);
[[nodiscard]] Status save_command(const Arguments& arguments);
[[nodiscard]] Status verify_command(const Arguments& arguments);

// Where state lies: $MSB_HOME, or $XDG_DATA_HOME/msb, or ~/.local/share/msb.
[[nodiscard]] Result<std::string> home_directory();
[[nodiscard]] Result<Store> open_store();
// The program that unpacks layers, beside the running one.
[[nodiscard]] Result<std::string> unpacker_path();
// Declares --max-layer-size, --max-file-size, --max-image-size and --max-entries.
void add_limit_options(Options& options, Limits& limits);

}  // namespace msb::oci
