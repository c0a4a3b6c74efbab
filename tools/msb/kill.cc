// SPDX-License-Identifier: Apache-2.0
// msb kill: powers sandboxes off, or signals what runs in them.
#include <array>

#include "supervisor/names.h"
#include "supervisor/quantities.h"
#include "tools/msb/verbs.h"

namespace msb::cli {
namespace {

enum KillOption : int { kLabel = kFirstVerbOption, kSignal, kSession };
constexpr std::array<Option, 3> kOptions = {{
    {kSignal, "signal", 's', "SIGNAL", "Send this to the commands in it instead of powering it off"},
    {kSession, "session", 0, "N", "Only to this session (msb attach --list)"},
    {kLabel, "label", 'l', "KEY=VALUE", "Those with this label"},
}};
const std::array<std::span<const Option>, 1> kTables = {kOptions};

Result<int> kill(const Parsed& args) {
  std::optional<int> signal;
  std::uint64_t session = 0;
  if (args.has(kSignal)) {
    MSB_ASSIGN(const auto number, flag_value("signal", supervisor::parse_signal(args.last(kSignal))));
    signal = number;
  }
  if (args.has(kSession)) {
    const auto number = supervisor::parse_decimal(args.last(kSession));
    if (!number || *number == 0) return usage_error("--session: must be a number");
    session = *number;
    if (!signal) signal = 9;
  }
  MSB_ASSIGN(const supervisor::Home home, supervisor::Home::open());
  MSB_ASSIGN(const auto names, select_names(home, args.positionals, args.all(kLabel)));
  return for_each_name(names, "kill", [&](const std::string& name) -> Status {
    MSB_ASSIGN(supervisor::Sandbox sandbox, supervisor::Sandbox::open(home, name));
    if (signal) {
      MSB_TRY(sandbox.signal(session, *signal));
    } else {
      MSB_TRY(sandbox.stop({.force = true}));
    }
    print(name + "\n");
    return {};
  });
}

}  // namespace

const Verb kKillVerb = {"kill",
                        "",
                        Group::kSandboxes,
                        "Power sandboxes off at once, or signal their commands",
                        "[OPTIONS] NAME...",
                        "Examples:\n"
                        "  msb kill web\n"
                        "  msb kill -s HUP web",
                        kTables,
                        Words::kOptionsAnywhere,
                        kExitFailure,
                        kill,
                        ""};

}  // namespace msb::cli
