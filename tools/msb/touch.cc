// SPDX-License-Identifier: Apache-2.0
// msb touch: starts the idle period of sandboxes anew.
#include <array>

#include "tools/msb/verbs.h"

namespace msb::cli {
namespace {

enum TouchOption : int { kLabel = kFirstVerbOption };
constexpr std::array<Option, 1> kOptions = {{{kLabel, "label", 'l', "KEY=VALUE", "Those with this label"}}};
const std::array<std::span<const Option>, 1> kTables = {kOptions};

Result<int> touch(const Parsed& args) {
  MSB_ASSIGN(const supervisor::Home home, supervisor::Home::open());
  MSB_ASSIGN(const auto names, select_names(home, args.positionals, args.all(kLabel)));
  return for_each_name(names, "touch", [&](const std::string& name) -> Status {
    MSB_ASSIGN(supervisor::Sandbox sandbox, supervisor::Sandbox::open(home, name));
    return sandbox.touch();
  });
}

}  // namespace

const Verb kTouchVerb = {"touch",
                         "",
                         Group::kSandboxes,
                         "Start the idle timeout of sandboxes anew",
                         "[OPTIONS] NAME...",
                         "",
                         kTables,
                         Words::kOptionsAnywhere,
                         kExitFailure,
                         touch,
                         ""};

}  // namespace msb::cli
