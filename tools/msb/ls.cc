// SPDX-License-Identifier: Apache-2.0
// msb ls: what sandboxes there are.
#include <algorithm>
#include <array>

#include "base/json.h"
#include "supervisor/quantities.h"
#include "tools/msb/listing.h"
#include "tools/msb/verbs.h"

namespace msb::cli {
namespace {

enum ListOption : int { kRunning = kFirstVerbOption, kStopped, kLabel, kQuiet, kFormat };
constexpr std::array<Option, 5> kOptions = {{
    {kRunning, "running", 0, "", "Only those that run"},
    {kStopped, "stopped", 0, "", "Only those that do not"},
    {kLabel, "label", 'l', "KEY=VALUE", "Only those with this label"},
    {kQuiet, "quiet", 'q', "", "Names only"},
    {kFormat, "format", 0, "FORMAT", "table or json"},
}};
const std::array<std::span<const Option>, 1> kTables = {kOptions};

Result<int> list(const Parsed& args) {
  MSB_TRY(no_more_than(args, 0));
  MSB_ASSIGN(const Format format, parse_format(args.last(kFormat)));
  MSB_ASSIGN(const supervisor::Home home, supervisor::Home::open());
  MSB_ASSIGN(auto infos, collect_summaries(home, args.all(kLabel)));
  const bool running = args.has(kRunning);
  const bool stopped = args.has(kStopped);
  std::erase_if(infos, [&](const supervisor::SandboxSummary& info) {
    return (running && !is_alive(info.state)) || (stopped && is_alive(info.state));
  });
  std::sort(infos.begin(), infos.end(), [](const auto& a, const auto& b) {
    return a.created_ns != b.created_ns ? a.created_ns > b.created_ns : a.name < b.name;
  });
  if (format == Format::kJson) {
    JsonWriter out(JsonWriter::Style::kPretty);
    out.begin_array();
    for (const auto& info : infos) {
      out.begin_object().field("name", info.name).field("status", supervisor::state_name(info.state));
      out.field("image", info.image).field("created_at", supervisor::format_rfc3339(info.created_ns, 9));
      put_ending(out, info.ending);
      out.end_object();
    }
    out.end_array();
    print(std::move(out).take());
    return kExitOk;
  }
  std::string text;
  if (args.has(kQuiet)) {
    for (const auto& info : infos) text += info.name + "\n";
  } else {
    std::vector<std::vector<std::string>> rows = {{"NAME", "IMAGE", "STATUS", "CREATED"}};
    for (const auto& info : infos) {
      rows.push_back({info.name, info.image, status_text(info.state, info.ending),
                      relative_time(info.created_ns, wall_clock_ns())});
    }
    text = format_table(rows, {40, 50, 0, 0});
  }
  print(text);
  return kExitOk;
}

}  // namespace

const Verb kListVerb = {"ls",
                        "list",
                        Group::kSandboxes,
                        "List sandboxes, newest first",
                        "[OPTIONS]",
                        "",
                        kTables,
                        Words::kOptionsAnywhere,
                        kExitFailure,
                        list,
                        ""};

}  // namespace msb::cli
