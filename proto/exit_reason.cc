// SPDX-License-Identifier: Apache-2.0
#include "proto/exit_reason.h"

#include <array>

namespace msb::proto {
namespace {

// In the order of the enumeration.
constexpr std::array<std::string_view, 13> kNames{
    "poweroff", "reboot",      "guest_panic",  "guest_oom", "triple_fault", "vmm_error",    "killed",
    "stopped",  "main_exited", "max_duration", "idle",      "owner_gone",   "agent_timeout"};
static_assert(kNames.size() == static_cast<std::size_t>(ExitReason::kAgentTimeout) + 1);

}  // namespace

std::string_view exit_reason_name(ExitReason reason) { return kNames[static_cast<std::size_t>(reason)]; }

std::optional<ExitReason> exit_reason_from_name(std::string_view name) {
  for (std::size_t i = 0; i < kNames.size(); ++i) {
    if (kNames[i] == name) return static_cast<ExitReason>(i);
  }
  return std::nullopt;
}

}  // namespace msb::proto
