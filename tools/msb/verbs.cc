// SPDX-License-Identifier: Apache-2.0
#include "tools/msb/verbs.h"

#include <array>

#include "supervisor/quantities.h"
#include "tools/msb/spec_flags.h"

namespace msb::cli {
namespace {

constexpr std::array<const Verb*, 28> kVerbs = {
    &kRunVerb,   &kCreateVerb, &kStartVerb,      &kStopVerb,      &kRestartVerb, &kKillVerb,
    &kWaitVerb,  &kRemoveVerb, &kExecVerb,       &kShellVerb,     &kAttachVerb,  &kCopyVerb,
    &kLogsVerb,  &kEventsVerb, &kListVerb,       &kProcessesVerb, &kInspectVerb, &kPingVerb,
    &kTouchVerb, &kImageVerb,  &kPullVerb,       &kLoadVerb,      &kSaveVerb,    &kRegistryVerb,
    &kNetVerb,   &kDoctorVerb, &kCompletionVerb, &kVersionVerb};

}  // namespace

std::span<const Verb* const> all_verbs() { return kVerbs; }

Result<supervisor::ExecSpec> command_from_flags(const Parsed& args) {
  supervisor::ExecSpec out;
  if (args.has(kCmdTimeout)) {
    MSB_ASSIGN(const auto timeout,
               flag_value("timeout", supervisor::parse_duration_ms(args.last(kCmdTimeout))));
    out.timeout_ms = timeout;
  }
  out.log = !args.has(kCmdNoLog);
  return out;
}

Status no_more_than(const Parsed& args, std::size_t positionals) {
  if (args.positionals.size() <= positionals) return {};
  return usage_error("unexpected word \"" + std::string(args.positionals[positionals]) + "\"");
}

Result<supervisor::Sandbox> open_only(const Parsed& args) {
  if (args.positionals.empty()) return usage_error("no sandbox is given");
  MSB_TRY(no_more_than(args, 1));
  MSB_ASSIGN(const supervisor::Home home, supervisor::Home::open());
  return supervisor::Sandbox::open(home, args.positionals.front());
}

}  // namespace msb::cli
