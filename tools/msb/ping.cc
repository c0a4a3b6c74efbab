// SPDX-License-Identifier: Apache-2.0
// msb ping: asks the guests of sandboxes for an answer.
#include <array>

#include "base/json.h"
#include "tools/msb/verbs.h"

namespace msb::cli {
namespace {

enum PingOption : int { kLabel = kFirstVerbOption, kTouch, kFormat };
constexpr std::array<Option, 3> kOptions = {{
    {kTouch, "touch", 0, "", "Start the idle timeout anew, too"},
    {kFormat, "format", 0, "FORMAT", "table or json (one object a line)"},
    {kLabel, "label", 'l', "KEY=VALUE", "Those with this label"},
}};
const std::array<std::span<const Option>, 1> kTables = {kOptions};

Result<int> ping(const Parsed& args) {
  MSB_ASSIGN(const Format format, parse_format(args.last(kFormat)));
  MSB_ASSIGN(const supervisor::Home home, supervisor::Home::open());
  MSB_ASSIGN(const auto names, select_names(home, args.positionals, args.all(kLabel)));
  return for_each_name(names, "ping", [&](const std::string& name) -> Status {
    MSB_ASSIGN(supervisor::Sandbox sandbox, supervisor::Sandbox::open(home, name));
    auto answer = sandbox.ping(supervisor::deadline_after(std::chrono::seconds(5)));
    if (!answer.ok()) return std::move(answer).error().with_context("ping \"" + name + "\"");
    if (args.has(kTouch)) MSB_TRY(sandbox.touch());
    const auto micros = answer->count() / 1000;
    if (format == Format::kJson) {
      JsonWriter out;
      out.begin_object().field("name", name).field("micros", micros).end_object();
      print(std::move(out).take() + "\n");
    } else {
      print(name + " answers in " + std::to_string(micros / 1000) + "." +
            std::to_string(micros % 1000 / 100) + " ms\n");
    }
    return {};
  });
}

}  // namespace

const Verb kPingVerb = {"ping",
                        "",
                        Group::kSandboxes,
                        "Check that the guests of sandboxes answer",
                        "[OPTIONS] NAME...",
                        "",
                        kTables,
                        Words::kOptionsAnywhere,
                        kExitFailure,
                        ping,
                        ""};

}  // namespace msb::cli
