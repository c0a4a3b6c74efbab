// SPDX-License-Identifier: Apache-2.0
// What ls, ps and inspect have in common.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "supervisor/supervisor.h"

namespace msb::cli {

// Every sandbox that has all `labels` ("KEY=VALUE"); those that cannot be read are noted on stderr and left
// out.
[[nodiscard]] Result<std::vector<supervisor::SandboxInfo>> collect_infos(
    const supervisor::Home& home, const std::vector<std::string_view>& labels);
[[nodiscard]] bool is_alive(supervisor::State state);
// "running", "stopped (exit 3)", "crashed (host_reboot)".
[[nodiscard]] std::string status_text(const supervisor::SandboxInfo& info);
// Member "ending" of an open object; none when it never ended.
void put_ending(JsonWriter& out, const supervisor::SandboxInfo& info);

}  // namespace msb::cli
