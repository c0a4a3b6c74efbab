// SPDX-License-Identifier: Apache-2.0
// msb rm: deletes sandboxes.
#include <array>

#include "tools/msb/verbs.h"

namespace msb::cli {
namespace {

enum RemoveOption : int { kLabel = kFirstVerbOption, kForce, kQuiet };
constexpr std::array<Option, 3> kOptions = {{
    {kForce, "force", 'f', "", "Also when it runs"},
    {kLabel, "label", 'l', "KEY=VALUE", "Those with this label"},
    {kQuiet, "quiet", 'q', "", "Do not print names"},
}};
const std::array<std::span<const Option>, 1> kTables = {kOptions};

Result<int> remove(const Parsed& args) {
  MSB_ASSIGN(const supervisor::Home home, supervisor::Home::open());
  MSB_ASSIGN(const auto names, select_names(home, args.positionals, args.all(kLabel)));
  const bool force = args.has(kForce);
  const bool quiet = args.has(kQuiet);
  const int code = for_each_name(names, "rm", [&](const std::string& name) -> Status {
    MSB_ASSIGN(supervisor::Sandbox sandbox, supervisor::Sandbox::open(home, name));
    MSB_TRY(sandbox.remove(force));
    if (!quiet) print(name + "\n");
    return {};
  });
  home.sweep();
  return code;
}

}  // namespace

const Verb kRemoveVerb = {"rm",
                          "remove",
                          Group::kSandboxes,
                          "Delete sandboxes and their files",
                          "[OPTIONS] NAME...",
                          "Images stay; msb image rm removes those.",
                          kTables,
                          Words::kOptionsAnywhere,
                          kExitFailure,
                          remove,
                          ""};

}  // namespace msb::cli
