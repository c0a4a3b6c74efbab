// SPDX-License-Identifier: Apache-2.0
// The options that `run` and `create` share, and the spec they make.
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "base/result.h"
#include "supervisor/spec.h"
#include "tools/msb/args.h"

namespace msb::cli {

[[nodiscard]] std::span<const Option> spec_options();

struct SpecFlags {
  supervisor::SandboxSpec spec;
  bool replace = false;
  std::int64_t replace_grace_ms = 10'000;
  bool quiet = false;
  bool shaped = false;  // something other than a name was asked for: it cannot apply to a sandbox that exists
};
// Configuration files first, then the flags over them. Everything that can be wrong with them is found here.
[[nodiscard]] Result<SpecFlags> spec_from_flags(const Parsed& args);

// The options of a command inside: shared by exec, run, shell.
enum CommandOption : int {
  kCmdTty = 400,
  kCmdNoTty,
  kCmdInteractive,
  kCmdTimeout,
  kCmdDetachKeys,
  kCmdNoLog
};
[[nodiscard]] std::span<const Option> command_options();

// -e and --env-file of `env_id` and `file_id`, in order.
[[nodiscard]] Result<std::vector<std::string>> env_from_flags(const Parsed& args, int env_id, int file_id);

}  // namespace msb::cli
