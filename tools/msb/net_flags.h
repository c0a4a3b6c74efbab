// SPDX-License-Identifier: Apache-2.0
// The options that say what a sandbox's network may do: shared by run, create and net.
#pragma once

#include <span>

#include "base/result.h"
#include "supervisor/spec.h"
#include "tools/msb/args.h"

namespace msb::cli {

// Their ids; other tables of the same verb keep clear of these.
inline constexpr int kFirstNetOption = 500;
inline constexpr int kLastNetOption = 599;

[[nodiscard]] std::span<const Option> net_options();
// Those for the policy alone, which may change while a sandbox runs.
[[nodiscard]] std::span<const Option> net_policy_options();

// The network options among `args` over what `network` holds already. An error names the option; what no
// option can be blamed for is left to supervisor::validate_spec().
[[nodiscard]] Status apply_net_flags(const Parsed& args, supervisor::NetworkSpec& network);

}  // namespace msb::cli
