// SPDX-License-Identifier: Apache-2.0
// msb start: boots sandboxes that are not running.
#include <array>

#include "tools/msb/verbs.h"

namespace msb::cli {
namespace {

enum StartOption : int { kLabel = kFirstVerbOption, kQuiet };
constexpr std::array<Option, 2> kOptions = {{
    {kLabel, "label", 'l', "KEY=VALUE", "Those with this label"},
    {kQuiet, "quiet", 'q', "", "Do not print names"},
}};
const std::array<std::span<const Option>, 1> kTables = {kOptions};

Result<int> start(const Parsed& args) {
  MSB_ASSIGN(const supervisor::Home home, supervisor::Home::open());
  MSB_ASSIGN(const auto names, select_names(home, args.positionals, args.all(kLabel)));
  const bool quiet = args.has(kQuiet);
  return for_each_name(names, "start", [&](const std::string& name) -> Status {
    MSB_ASSIGN(supervisor::Sandbox sandbox, supervisor::Sandbox::open(home, name));
    MSB_TRY(sandbox.start({}));
    if (!quiet) print(name + "\n");
    return {};
  });
}

}  // namespace

const Verb kStartVerb = {"start",
                         "",
                         Group::kSandboxes,
                         "Boot stopped sandboxes",
                         "[OPTIONS] NAME...",
                         "A sandbox made by run -d runs its command again.",
                         kTables,
                         Words::kOptionsAnywhere,
                         kExitFailure,
                         start,
                         ""};

}  // namespace msb::cli
