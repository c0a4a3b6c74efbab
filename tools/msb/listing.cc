// SPDX-License-Identifier: Apache-2.0
#include "tools/msb/listing.h"

#include <algorithm>

#include "supervisor/grammar.h"
#include "supervisor/names.h"
#include "supervisor/quantities.h"
#include "tools/msb/cli.h"

namespace msb::cli {

using supervisor::SandboxInfo;
using supervisor::State;

Result<std::vector<SandboxInfo>> collect_infos(const supervisor::Home& home,
                                               const std::vector<std::string_view>& labels) {
  std::vector<supervisor::Label> wanted;
  for (const std::string_view text : labels) {
    MSB_ASSIGN(auto label, flag_value("label", supervisor::parse_label(text)));
    wanted.push_back(std::move(label));
  }
  MSB_ASSIGN(const auto names, home.names());
  std::vector<SandboxInfo> out;
  for (const std::string& name : names) {
    const auto sandbox = supervisor::Sandbox::open(home, name);
    if (!sandbox.ok()) continue;  // gone meanwhile
    auto info = sandbox->info();
    if (!info.ok()) {
      if (info.error().code != Errc::kNotFound) note("warning: " + printable(info.error().text));
      continue;
    }
    const auto& have = info->spec.labels;
    const bool match = std::all_of(wanted.begin(), wanted.end(), [&](const supervisor::Label& label) {
      return std::find(have.begin(), have.end(), label) != have.end();
    });
    if (match) out.push_back(std::move(info).value());
  }
  return out;
}

bool is_alive(State state) {
  return state != State::kCreated && state != State::kStopped && state != State::kCrashed;
}

std::string status_text(const SandboxInfo& info) {
  std::string out(supervisor::state_name(info.state));
  if (is_alive(info.state) || !info.ending) return out;
  if (info.ending->signal) return out + " (" + supervisor::signal_name(*info.ending->signal) + ")";
  if (info.ending->code) return out + " (exit " + std::to_string(*info.ending->code) + ")";
  const std::string& reason = info.ending->reason;
  if (!reason.empty() && reason != "stopped" && reason != out) out += " (" + reason + ")";
  return out;
}

void put_ending(JsonWriter& out, const SandboxInfo& info) {
  if (!info.ending) return;
  out.key("ending").begin_object().field("reason", info.ending->reason);
  if (!info.ending->detail.empty()) out.field("detail", info.ending->detail);
  if (info.ending->code) out.field("code", *info.ending->code);
  if (info.ending->signal) out.field("signal", *info.ending->signal);
  if (info.ending->at_ns != 0) out.field("at", supervisor::format_rfc3339(info.ending->at_ns, 9));
  out.end_object();
}

}  // namespace msb::cli
