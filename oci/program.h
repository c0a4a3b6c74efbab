// SPDX-License-Identifier: Apache-2.0
// What the programs of this room have in common: a word that chooses a command, exit codes, how errors are
// shown.
#pragma once

#include <span>
#include <string_view>

#include "oci/commands.h"

namespace msb::oci {

struct Command {
  std::string_view name;
  std::string_view summary;  // empty: plumbing, not shown
  Status (*run)(const Arguments&);
};

// The whole main(). Exit codes: 0, 1 for what failed, 2 for a wrong command line. `program` is a literal.
[[nodiscard]] int run_program(const char* program, std::span<const Command> commands, int argc, char** argv);

}  // namespace msb::oci
