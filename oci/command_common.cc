// SPDX-License-Identifier: Apache-2.0
#include <cstdlib>

#include "oci/commands.h"

namespace msb::oci {

Result<std::string> home_directory() {
  const auto variable = [](const char* name) -> std::string {
    const char* value = std::getenv(name);
    return value == nullptr ? "" : value;
  };
  std::string home = variable("MSB_HOME");
  if (home.empty() && !variable("XDG_DATA_HOME").empty()) home = variable("XDG_DATA_HOME") + "/msb";
  if (home.empty() && !variable("HOME").empty()) home = variable("HOME") + "/.local/share/msb";
  if (home.empty())
    return make_error(Errc::kInvalid,
                      "find the image store: neither MSB_HOME, XDG_DATA_HOME nor HOME is set");
  if (home[0] != '/')
    return make_error(Errc::kInvalid, "find the image store: \"%s\" is not an absolute path", home.c_str());
  return home;
}

Result<Store> open_store() {
  MSB_ASSIGN(const std::string home, home_directory());
  return Store::open(home);
}

void add_limit_options(Options& options, Limits& limits) {
  options.size("max-layer-size", limits.max_layer_bytes);
  options.size("max-file-size", limits.max_file_bytes);
  options.size("max-image-size", limits.max_image_bytes);
  options.number32("max-entries", limits.max_entries);
}

}  // namespace msb::oci
