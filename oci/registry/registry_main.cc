// SPDX-License-Identifier: Apache-2.0
// msb-registry: images from registries, and logins for them.
#include <array>

#include "oci/program.h"
#include "oci/registry/registry_commands.h"

int main(int argc, char** argv) {
  using msb::oci::Command;
  constexpr std::array kCommands = {
      Command{"pull", "fetch images from a registry", msb::oci::pull_command},
      Command{"login", "keep a name and a password for a registry", msb::oci::login_command},
      Command{"logout", "forget them", msb::oci::logout_command},
      Command{"registries", "list registries with a login", msb::oci::registries_command},
  };
  return msb::oci::run_program("msb-registry", kCommands, argc, argv);
}
