// SPDX-License-Identifier: Apache-2.0
// The commands of msb-registry; as those of commands.h.
#pragma once

#include "oci/commands.h"

namespace msb::oci {

[[nodiscard]] Status pull_command(const Arguments& arguments);
[[nodiscard]] Status login_command(const Arguments& arguments);
[[nodiscard]] Status logout_command(const Arguments& arguments);
[[nodiscard]] Status registries_command(const Arguments& arguments);

}  // namespace msb::oci
