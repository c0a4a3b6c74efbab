// SPDX-License-Identifier: Apache-2.0
// msb create: a sandbox that runs and waits for commands.
#include <array>
#include <optional>

#include "tools/msb/net_flags.h"
#include "tools/msb/spec_flags.h"
#include "tools/msb/spinner.h"
#include "tools/msb/verbs.h"

namespace msb::cli {
namespace {

enum CreateOption : int { kNoStart = kFirstVerbOption };
constexpr std::array<Option, 1> kOptions = {
    {{kNoStart, "no-start", 0, "", "Only prepare it; msb start boots it"}}};
const std::array<std::span<const Option>, 3> kTables = {kOptions, spec_options(), net_options()};

Result<int> create(const Parsed& args) {
  MSB_TRY(no_more_than(args, 1));
  MSB_ASSIGN(SpecFlags flags, spec_from_flags(args));
  MSB_ASSIGN(const supervisor::Home home, supervisor::Home::open());
  home.sweep();
  if (flags.replace && !flags.spec.name.empty()) {
    auto old = supervisor::Sandbox::open(home, flags.spec.name);
    if (old.ok()) {
      if (flags.replace_grace_ms != 0) (void)old->stop({.grace_ms = flags.replace_grace_ms}).ok();
      MSB_TRY(old->remove(true));
    }
  }
  supervisor::CreateOptions options;
  options.quiet = flags.quiet;
  options.boot = !args.has(kNoStart);
  std::optional<Spinner> spinner;
  options.on_boot = [&] { spinner.emplace("boot", !options.quiet); };
  MSB_ASSIGN(const supervisor::Sandbox sandbox,
             supervisor::Sandbox::create(home, std::move(flags.spec), options));
  print(sandbox.name() + "\n");
  return kExitOk;
}

}  // namespace

const Verb kCreateVerb = {"create",
                          "",
                          Group::kSandboxes,
                          "Make a sandbox and boot it, without a command",
                          "[OPTIONS] IMAGE",
                          "Prints the sandbox's name once its guest takes commands.\n"
                          "\n"
                          "Examples:\n"
                          "  msb create -n dev -m 4G debian:12\n"
                          "  msb create --conf sandbox.yaml",
                          kTables,
                          Words::kOptionsAnywhere,
                          kExitFailure,
                          create,
                          ""};

}  // namespace msb::cli
