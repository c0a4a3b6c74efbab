// SPDX-License-Identifier: Apache-2.0
// msb stop: asks sandboxes to end in order.
#include <array>

#include "supervisor/quantities.h"
#include "tools/msb/verbs.h"

namespace msb::cli {
namespace {

enum StopOption : int { kLabel = kFirstVerbOption, kQuiet, kTime, kForce };
constexpr std::array<Option, 4> kOptions = {{
    {kTime, "time", 't', "TIME", "Grace before what still runs is killed (the sandbox's stop timeout)"},
    {kForce, "force", 'f', "", "Power off at once; data not synced is lost"},
    {kLabel, "label", 'l', "KEY=VALUE", "Those with this label"},
    {kQuiet, "quiet", 'q', "", "Do not print names"},
}};
const std::array<std::span<const Option>, 1> kTables = {kOptions};

Result<int> stop(const Parsed& args) {
  supervisor::StopOptions options;
  options.force = args.has(kForce);
  if (args.has(kTime)) {
    MSB_ASSIGN(const auto grace, flag_value("time", supervisor::parse_duration_ms(args.last(kTime))));
    options.grace_ms = grace;
  }
  MSB_ASSIGN(const supervisor::Home home, supervisor::Home::open());
  MSB_ASSIGN(const auto names, select_names(home, args.positionals, args.all(kLabel)));
  const bool quiet = args.has(kQuiet);
  return for_each_name(names, "stop", [&](const std::string& name) -> Status {
    MSB_ASSIGN(supervisor::Sandbox sandbox, supervisor::Sandbox::open(home, name));
    MSB_TRY(sandbox.stop(options));
    if (!quiet) print(name + "\n");
    return {};
  });
}

}  // namespace

const Verb kStopVerb = {
    "stop",
    "",
    Group::kSandboxes,
    "Stop sandboxes in order",
    "[OPTIONS] NAME...",
    "Its commands get the stop signal and the grace time, then the guest syncs its disks and powers off.",
    kTables,
    Words::kOptionsAnywhere,
    kExitFailure,
    stop,
    ""};

}  // namespace msb::cli
