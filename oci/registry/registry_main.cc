// SPDX-License-Identifier: Apache-2.0
// msb-registry: images from registries, and logins for them.
#include <array>

#include "oci/program.h"
#include "oci/registry/registry_commands.h"

int main(int argc, char** argv) {
  using namespace msb::oci;
  constexpr std::array<Command, 4> kCommands = {{
      {"pull", "fetch images from a registry", pull_command},
      {"login", "keep a name and a password for a registry", login_command},
      {"logout", "forget them", logout_command},
      {"registries", "list registries with a login", registries_command},
  }};
  return run_program("msb-registry", kCommands, argc, argv);
}
