// SPDX-License-Identifier: Apache-2.0
// msb-image: images in archives and in the store. What talks to registries is msb-registry, started from here
// under the same words: loading its libraries takes longer than most of what this program does (record 0073).
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <string>
#include <string_view>

#include "base/file.h"
#include "oci/program.h"

namespace {

using msb::oci::Command;

constexpr std::array kCommands = {
    Command{"load", "take in images from a docker-archive or an OCI layout", msb::oci::load_command},
    Command{"save", "write images to an archive", msb::oci::save_command},
    Command{"ls", "list images", msb::oci::list_command},
    Command{"inspect", "show all about images", msb::oci::inspect_command},
    Command{"tag", "give an image another name", msb::oci::tag_command},
    Command{"rm", "remove images", msb::oci::remove_command},
    Command{"prune", "remove what nothing needs", msb::oci::prune_command},
    Command{"verify", "check layers against their ids", msb::oci::verify_command},
    Command{"mkfs-upper", "make an empty ext4 for a sandbox's writes", msb::oci::mkfs_upper_command},
    Command{"unpack-layer", "", msb::oci::unpack_layer_command},
    Command{"unpack-disk", "", msb::oci::unpack_disk_command},
};
constexpr std::array<std::string_view, 4> kOfRegistries = {"pull", "login", "logout", "registries"};

// Becomes msb-registry, which stands beside this program; returns only when that fails.
int become_registry(char** argv) {
  const auto self = msb::executable_path();
  if (self) {
    const std::string path = msb::parent_path(*self) + "/msb-registry";
    ::execv(path.c_str(), argv);
    std::fprintf(stderr, "msb-image: %s\n", msb::sys_error("start " + path).text.c_str());
  }
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  for (const std::string_view name : kOfRegistries) {
    if (argc > 1 && argv[1] == name) return become_registry(argv);
  }
  return msb::oci::run_program("msb-image", kCommands, argc, argv);
}
