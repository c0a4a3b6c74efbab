// SPDX-License-Identifier: Apache-2.0
// How a sandbox ended, or why it never started: the values, and the forms in which they are told.
#pragma once

#include <optional>
#include <string>

#include "base/result.h"
#include "proto/agent.h"
#include "proto/exit_reason.h"

namespace msb::vmm {

struct Ending {
  proto::ExitReason reason = proto::ExitReason::kVmmError;
  std::string detail;               // for people
  std::optional<proto::Exit> exit;  // of the main command
};
// The JSON object that state.json keeps and whoever waits for the end is told. `at_ns`: wall clock.
[[nodiscard]] std::string to_json(const Ending& ending, std::int64_t at_ns);

// A start that failed: where ("lock", "kvm", "boot", ...; vmm/exit_codes.h has what they mean) and why.
struct Failure {
  std::string stage;
  Error error;
};
// Writes the failure as one line to stderr, and as {"error":{...}} to `ready_fd`, if there is one, which it
// closes.
void report_failure(std::optional<int> ready_fd, const Failure& failure);

}  // namespace msb::vmm
