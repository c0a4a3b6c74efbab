// SPDX-License-Identifier: Apache-2.0
// Configuration files (`--conf`): YAML, of which JSON is a part, into the JSON form of a SandboxSpec.
//
// Strict on purpose, so that a file means the same to every reader: one document, no anchors, aliases, tags
// or merge keys, no repeated keys, booleans are only true and false. ${NAME} is replaced by the host's
// environment variable and must be set; $${ stands for a plain ${. Relative host paths mean: relative to the
// file. Several files merge left to right: mappings by key, everything else as a whole.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "supervisor/grammar.h"
#include "supervisor/spec.h"

namespace msb::supervisor {

struct ConfFile {
  std::string name;  // for error texts, and its directory for relative paths
  std::string text;
};

inline constexpr std::size_t kMaxConfBytes = std::size_t{16} << 20;

// The merged files as a spec. Errors start with FILE:LINE:COLUMN where a place is known. An incomplete spec
// (no image) is fine: flags may still add to it.
[[nodiscard]] Result<SandboxSpec> spec_from_conf(const std::vector<ConfFile>& files, GetEnv getenv_fn);

}  // namespace msb::supervisor
