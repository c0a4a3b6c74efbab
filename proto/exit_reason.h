// SPDX-License-Identifier: Apache-2.0
// Why a sandbox ended. The names are stable: they stand in state.json, on the control socket and in the CLI.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace msb::proto {

enum class ExitReason : std::uint8_t {
  kPoweroff,      // the guest powered itself off
  kReboot,        // the guest asked for a reset
  kGuestPanic,    // the guest's kernel panicked
  kGuestOom,      // it panicked because no memory was left
  kTripleFault,   // the guest's CPU shut down
  kVmmError,      // the machine failed on the host's side
  kKilled,        // the machine role was killed from outside, or `kill` was asked for
  kStopped,       // `stop` was asked for
  kMainExited,    // the main command ended
  kMaxDuration,   // the sandbox lived as long as it was allowed to
  kIdle,          // nothing happened in it for as long as was allowed
  kOwnerGone,     // the process it was attached to ended
  kAgentTimeout,  // the agent did not report ready in time
};

[[nodiscard]] std::string_view exit_reason_name(ExitReason reason);
[[nodiscard]] std::optional<ExitReason> exit_reason_from_name(std::string_view name);

}  // namespace msb::proto
