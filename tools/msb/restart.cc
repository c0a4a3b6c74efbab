// SPDX-License-Identifier: Apache-2.0
// msb restart: stops and starts again.
#include <array>

#include "supervisor/quantities.h"
#include "tools/msb/verbs.h"

namespace msb::cli {
namespace {

enum RestartOption : int { kLabel = kFirstVerbOption, kQuiet, kTime, kForce };
constexpr std::array<Option, 4> kOptions = {{
    {kTime, "time", 't', "TIME", "Grace of the stop"},
    {kForce, "force", 'f', "", "Power off instead of stopping in order"},
    {kLabel, "label", 'l', "KEY=VALUE", "Those with this label"},
    {kQuiet, "quiet", 'q', "", "Do not print names"},
}};
const std::array<std::span<const Option>, 1> kTables = {kOptions};

Result<int> restart(const Parsed& args) {
  supervisor::StopOptions options;
  options.force = args.has(kForce);
  if (args.has(kTime)) {
    MSB_ASSIGN(const auto grace, flag_value("time", supervisor::parse_duration_ms(args.last(kTime))));
    options.grace_ms = grace;
  }
  MSB_ASSIGN(const supervisor::Home home, supervisor::Home::open());
  MSB_ASSIGN(const auto names, select_names(home, args.positionals, args.all(kLabel)));
  const bool quiet = args.has(kQuiet);
  return for_each_name(names, "restart", [&](const std::string& name) -> Status {
    MSB_ASSIGN(supervisor::Sandbox sandbox, supervisor::Sandbox::open(home, name));
    MSB_ASSIGN(const auto info, sandbox.info());
    if (info.spec.ephemeral)
      return make_error(Errc::kInvalid, "restart \"%s\": it is removed when it ends (--rm)", name.c_str());
    MSB_TRY(sandbox.stop(options));
    MSB_TRY(sandbox.start({}));
    if (!quiet) print(name + "\n");
    return {};
  });
}

}  // namespace

const Verb kRestartVerb = {"restart",
                           "",
                           Group::kSandboxes,
                           "Stop and start sandboxes",
                           "[OPTIONS] NAME...",
                           "",
                           kTables,
                           Words::kOptionsAnywhere,
                           kExitFailure,
                           restart,
                           ""};

}  // namespace msb::cli
