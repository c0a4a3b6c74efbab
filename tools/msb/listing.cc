// SPDX-License-Identifier: Apache-2.0
#include "tools/msb/listing.h"

#include <algorithm>

#include "supervisor/grammar.h"
#include "supervisor/names.h"
#include "supervisor/quantities.h"
#include "tools/msb/cli.h"

namespace msb::cli {

using supervisor::Ending;
using supervisor::SandboxSummary;
using supervisor::State;

Result<std::vector<SandboxSummary>> collect_summaries(const supervisor::Home& home,
                                                      const std::vector<std::string_view>& labels) {
  std::vector<supervisor::Label> wanted;
  for (const std::string_view text : labels) {
    MSB_ASSIGN(auto label, flag_value("label", supervisor::parse_label(text)));
    wanted.push_back(std::move(label));
  }
  MSB_ASSIGN(const auto names, home.names());
  std::vector<SandboxSummary> out;
  for (const std::string& name : names) {
    auto summary = home.summary(name);
    if (!summary.ok()) {
      if (summary.error().code != Errc::kNotFound) note("warning: " + printable(summary.error().text));
      continue;
    }
    const auto& have = summary->labels;
    const bool match = std::all_of(wanted.begin(), wanted.end(), [&](const supervisor::Label& label) {
      return std::find(have.begin(), have.end(), label) != have.end();
    });
    if (match) out.push_back(std::move(summary).value());
  }
  return out;
}

bool is_alive(State state) {
  return state != State::kCreated && state != State::kStopped && state != State::kCrashed;
}

std::string status_text(State state, const std::optional<Ending>& ending) {
  std::string out(supervisor::state_name(state));
  if (is_alive(state) || !ending) return out;
  if (ending->signal) return out + " (" + supervisor::signal_name(*ending->signal) + ")";
  if (ending->code) return out + " (exit " + std::to_string(*ending->code) + ")";
  const std::string& reason = ending->reason;
  if (!reason.empty() && reason != "stopped" && reason != out) out += " (" + reason + ")";
  return out;
}

void put_ending(JsonWriter& out, const std::optional<Ending>& ending) {
  if (!ending) return;
  out.key("ending").begin_object().field("reason", ending->reason);
  if (!ending->detail.empty()) out.field("detail", ending->detail);
  if (ending->code) out.field("code", *ending->code);
  if (ending->signal) out.field("signal", *ending->signal);
  if (ending->at_ns != 0) out.field("at", supervisor::format_rfc3339(ending->at_ns, 9));
  out.end_object();
}

}  // namespace msb::cli
