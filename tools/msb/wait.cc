// SPDX-License-Identifier: Apache-2.0
// msb wait: waits for the end of sandboxes.
#include <array>

#include "base/json.h"
#include "supervisor/quantities.h"
#include "tools/msb/verbs.h"

namespace msb::cli {
namespace {

enum WaitOption : int { kTimeout = kFirstVerbOption, kFormat };
constexpr std::array<Option, 2> kOptions = {{
    {kTimeout, "timeout", 0, "TIME", "Give up after this long (exit code 124)"},
    {kFormat, "format", 0, "FORMAT", "table or json"},
}};
const std::array<std::span<const Option>, 1> kTables = {kOptions};
constexpr int kExitTimedOut = 124;

Result<int> wait(const Parsed& args) {
  supervisor::Deadline deadline;
  if (args.has(kTimeout)) {
    MSB_ASSIGN(const auto timeout, flag_value("timeout", supervisor::parse_duration_ms(args.last(kTimeout))));
    deadline = supervisor::deadline_after(std::chrono::milliseconds(timeout));
  }
  MSB_ASSIGN(const Format format, parse_format(args.last(kFormat)));
  MSB_ASSIGN(supervisor::Sandbox sandbox, open_only(args));
  auto ending = sandbox.wait(deadline);
  if (!ending.ok() && ending.error().code == Errc::kTimeout) return kExitTimedOut;
  if (!ending.ok()) return std::move(ending).error();
  if (format == Format::kJson) {
    JsonWriter out;
    out.begin_object().field("name", sandbox.name()).field("reason", ending->reason);
    if (ending->code) out.field("code", *ending->code);
    if (ending->signal) out.field("signal", *ending->signal);
    if (ending->at_ns != 0) out.field("ended_at", supervisor::format_rfc3339(ending->at_ns, 9));
    out.end_object();
    print(std::move(out).take() + "\n");
  } else {
    print((ending->reason.empty() ? "never ran" : ending->reason) + "\n");
  }
  if (ending->signal) return kExitSignalBase + *ending->signal;
  return ending->code.value_or(kExitOk);
}

}  // namespace

const Verb kWaitVerb = {
    "wait",
    "",
    Group::kSandboxes,
    "Wait until a sandbox has ended",
    "[OPTIONS] NAME",
    "Prints why it ended; the exit code is that of its main command (run -d), 0 without one.",
    kTables,
    Words::kOptionsAnywhere,
    kExitOwnFailure,
    wait,
    ""};

}  // namespace msb::cli
