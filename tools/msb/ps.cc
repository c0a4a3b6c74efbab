// SPDX-License-Identifier: Apache-2.0
// msb ps: what runs, with its resources.
#include <algorithm>
#include <array>

#include "base/json.h"
#include "supervisor/grammar.h"
#include "supervisor/quantities.h"
#include "tools/msb/listing.h"
#include "tools/msb/verbs.h"

namespace msb::cli {
namespace {

enum ProcessesOption : int { kAll = kFirstVerbOption, kLabel, kFormat };
constexpr std::array<Option, 3> kOptions = {{
    {kAll, "all", 'a', "", "Stopped ones too"},
    {kLabel, "label", 'l', "KEY=VALUE", "Only those with this label"},
    {kFormat, "format", 0, "FORMAT", "table or json"},
}};
const std::array<std::span<const Option>, 1> kTables = {kOptions};

std::string joined(const std::vector<std::string>& words) {
  std::string out;
  for (const std::string& word : words) out += (out.empty() ? "" : " ") + word;
  return out;
}

std::string ports_text(const supervisor::SandboxSpec& spec) {
  std::string out;
  for (const auto& port : spec.network.ports) {
    out += (out.empty() ? "" : ", ") + port.bind + ":" + std::to_string(port.host) + "->" +
           std::to_string(port.guest) + (port.udp ? "/udp" : "/tcp");
  }
  return out;
}

Result<int> processes(const Parsed& args) {
  MSB_TRY(no_more_than(args, 1));
  MSB_ASSIGN(const Format format, parse_format(args.last(kFormat)));
  MSB_ASSIGN(const supervisor::Home home, supervisor::Home::open());
  std::vector<supervisor::SandboxInfo> infos;
  if (args.positionals.empty()) {
    MSB_ASSIGN(const auto summaries, collect_summaries(home, args.all(kLabel)));
    for (const auto& summary : summaries) {
      if (!args.has(kAll) && !is_alive(summary.state)) continue;
      const auto sandbox = supervisor::Sandbox::open(home, summary.name);
      if (!sandbox.ok()) continue;  // gone meanwhile
      if (auto info = sandbox->info(); info.ok()) infos.push_back(std::move(info).value());
    }
  } else {
    MSB_ASSIGN(const auto sandbox, supervisor::Sandbox::open(home, args.positionals.front()));
    MSB_ASSIGN(auto info, sandbox.info());
    infos.push_back(std::move(info));
  }
  if (format == Format::kJson) {
    JsonWriter out(JsonWriter::Style::kPretty);
    out.begin_array();
    for (const auto& info : infos) {
      out.begin_object().field("name", info.name).field("status", supervisor::state_name(info.state));
      out.field("image", info.spec.image)
          .field("command", info.main)
          .field("pid", static_cast<std::int64_t>(info.pid));
      out.field("cpus", info.spec.cpus).field("max_cpus", std::max(info.spec.cpus, info.spec.max_cpus));
      out.field("memory_mib", info.spec.memory_mib);
      out.field("max_memory_mib", std::max(info.spec.memory_mib, info.spec.max_memory_mib));
      if (info.started_ns != 0) out.field("started_at", supervisor::format_rfc3339(info.started_ns, 9));
      out.key("ports").begin_array();
      for (const auto& port : info.spec.network.ports) out.string(supervisor::format_port(port));
      out.end_array();
      put_ending(out, info.ending);
      out.end_object();
    }
    out.end_array();
    print(std::move(out).take());
    return kExitOk;
  }
  std::vector<std::vector<std::string>> rows = {
      {"NAME", "IMAGE", "COMMAND", "CPUS", "MEMORY", "STATUS", "STARTED", "PORTS"}};
  for (const auto& info : infos) {
    rows.push_back({info.name, info.spec.image, joined(info.main), std::to_string(info.spec.cpus),
                    supervisor::format_size_mib(info.spec.memory_mib), status_text(info.state, info.ending),
                    relative_time(info.started_ns, wall_clock_ns()), ports_text(info.spec)});
  }
  print(format_table(rows, {32, 40, 30, 0, 0, 0, 0, 0}));
  return kExitOk;
}

}  // namespace

const Verb kProcessesVerb = {"ps",
                             "status",
                             Group::kSandboxes,
                             "Show running sandboxes with their resources",
                             "[OPTIONS] [NAME]",
                             "",
                             kTables,
                             Words::kOptionsAnywhere,
                             kExitFailure,
                             processes,
                             ""};

}  // namespace msb::cli
