// SPDX-License-Identifier: Apache-2.0
// The specification as a part of a larger JSON document. Private to supervisor/; spec.h has the whole texts.
#pragma once

#include <vector>

#include "base/json.h"
#include "supervisor/spec.h"

namespace msb::supervisor {

// As spec_from_json.
[[nodiscard]] Result<SandboxSpec> spec_from_view(const JsonView& view, UnknownKeys unknown);

// The member "labels" of a specification.
[[nodiscard]] Result<std::vector<Label>> labels_from_view(const JsonView& spec);

}  // namespace msb::supervisor
