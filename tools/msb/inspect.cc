// SPDX-License-Identifier: Apache-2.0
// msb inspect: all that is known of a sandbox, or the configuration file that would make it again.
#include <fcntl.h>

#include <array>

#include "base/file.h"
#include "base/json.h"
#include "supervisor/quantities.h"
#include "tools/msb/listing.h"
#include "tools/msb/verbs.h"

namespace msb::cli {
namespace {

enum InspectOption : int { kFormat = kFirstVerbOption };
constexpr std::array<Option, 1> kOptions = {
    {{kFormat, "format", 0, "FORMAT", "table, json, or conf: a file for --conf"}}};
const std::array<std::span<const Option>, 1> kTables = {kOptions};

constexpr std::size_t kConsoleLines = 10;

// The last lines the guest's kernel printed: what a crash is understood by.
std::vector<std::string> console_tail(const supervisor::Sandbox& sandbox) {
  std::vector<std::string> out;
  const auto fd = open_at(sandbox.directory_fd(), "logs/console.log", O_RDONLY | O_NOFOLLOW);
  if (!fd.ok()) return out;
  auto text = read_all(fd->get(), std::size_t{64} << 20);
  if (!text.ok()) return out;
  while (!text->empty() && out.size() < kConsoleLines) {
    if (text->back() == '\n') text->pop_back();
    const auto newline = text->rfind('\n');
    out.insert(out.begin(), newline == std::string::npos ? *text : text->substr(newline + 1));
    text->resize(newline == std::string::npos ? 0 : newline + 1);
  }
  return out;
}

void put_row(std::string& out, std::string_view key, std::string_view value) {
  if (value.empty()) return;
  std::string line(key);
  line += ':';
  line.append(line.size() < 14 ? 14 - line.size() : 1, ' ');
  out += line + printable(value) + "\n";
}

std::string as_text(const supervisor::SandboxInfo& info, const std::vector<std::string>& console) {
  const auto& spec = info.spec;
  std::string out;
  put_row(out, "Name", info.name);
  put_row(out, "Status", status_text(info.state, info.ending));
  if (info.ending && !info.ending->reason.empty() && !is_alive(info.state)) {
    put_row(out, "Ended",
            info.ending->reason + (info.ending->detail.empty() ? "" : ": " + info.ending->detail));
    if (info.ending->at_ns != 0) put_row(out, "Ended at", supervisor::format_rfc3339(info.ending->at_ns, 0));
  }
  put_row(out, "Image", spec.image);
  put_row(out, "Digest", info.image_digest);
  put_row(out, "Created", supervisor::format_rfc3339(info.created_ns, 0));
  if (info.started_ns != 0) put_row(out, "Started", supervisor::format_rfc3339(info.started_ns, 0));
  if (info.pid != 0) put_row(out, "Process", std::to_string(info.pid));
  put_row(out, "CPUs", std::to_string(spec.cpus));
  put_row(out, "Memory", supervisor::format_size_mib(spec.memory_mib));
  // The rest stands as in a configuration file: nothing that was asked for is hidden.
  out += "Configuration:\n";
  std::string conf = spec_to_json(spec, true);
  std::size_t at = 0;
  while (at < conf.size()) {
    const auto newline = conf.find('\n', at);
    out += "  " + printable(std::string_view(conf).substr(at, newline - at)) + "\n";
    at = newline == std::string::npos ? conf.size() : newline + 1;
  }
  if (!is_alive(info.state) && !console.empty()) {
    out += "Last console lines:\n";
    for (const std::string& line : console) out += "  " + printable(line) + "\n";
  }
  return out;
}

std::string as_json(const supervisor::SandboxInfo& info, const std::vector<std::string>& console) {
  JsonWriter out;
  out.begin_object().field("name", info.name).field("status", supervisor::state_name(info.state));
  out.field("image_digest", info.image_digest)
      .field("created_at", supervisor::format_rfc3339(info.created_ns, 9));
  if (info.started_ns != 0) out.field("started_at", supervisor::format_rfc3339(info.started_ns, 9));
  if (info.pid != 0) out.field("pid", static_cast<std::int64_t>(info.pid));
  out.field("command", info.main);
  put_ending(out, info.ending);
  out.key("config").raw(spec_to_json(info.spec));
  if (!is_alive(info.state)) out.field("console", console);
  out.end_object();
  return std::move(out).take() + "\n";
}

// A plain "${" would be read as a variable.
std::string as_conf(const supervisor::SandboxSpec& spec) {
  std::string out;
  const std::string json = spec_to_json(spec, true);
  for (std::size_t i = 0; i < json.size(); ++i) {
    if (json[i] == '$' && i + 1 < json.size() && json[i + 1] == '{') out += '$';
    out += json[i];
  }
  return out;
}

Result<int> inspect(const Parsed& args) {
  MSB_ASSIGN(const Format format, parse_format(args.last(kFormat), true));
  MSB_ASSIGN(const supervisor::Sandbox sandbox, open_only(args));
  MSB_ASSIGN(auto info, sandbox.info());
  if (format == Format::kConf) {
    print(as_conf(info.spec));
    return kExitOk;
  }
  const auto console = console_tail(sandbox);
  print(format == Format::kJson ? as_json(info, console) : as_text(info, console));
  return kExitOk;
}

}  // namespace

const Verb kInspectVerb = {"inspect",
                           "",
                           Group::kSandboxes,
                           "Show all about a sandbox",
                           "[OPTIONS] NAME",
                           "Examples:\n"
                           "  msb inspect web\n"
                           "  msb inspect --format conf web > web.conf && msb create --conf web.conf -n web2",
                           kTables,
                           Words::kOptionsAnywhere,
                           kExitFailure,
                           inspect,
                           ""};

}  // namespace msb::cli
