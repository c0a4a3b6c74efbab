// SPDX-License-Identifier: Apache-2.0
// What ls, ps and inspect have in common.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "supervisor/supervisor.h"

namespace msb::cli {

// A summary of every sandbox that has all `labels` ("KEY=VALUE"); those that cannot be read are noted on
// stderr and left out.
[[nodiscard]] Result<std::vector<supervisor::SandboxSummary>> collect_summaries(
    const supervisor::Home& home, const std::vector<std::string_view>& labels);
[[nodiscard]] bool is_alive(supervisor::State state);
// "running", "stopped (exit 3)", "crashed (host_reboot)".
[[nodiscard]] std::string status_text(supervisor::State state,
                                      const std::optional<supervisor::Ending>& ending);
// Member "ending" of an open object; none when it never ended.
void put_ending(JsonWriter& out, const std::optional<supervisor::Ending>& ending);

}  // namespace msb::cli
