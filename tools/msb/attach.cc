// SPDX-License-Identifier: Apache-2.0
// msb attach: back to a session that was left running, or the list of them.
#include <array>

#include "base/json.h"
#include "supervisor/grammar.h"
#include "supervisor/quantities.h"
#include "tools/msb/session_io.h"
#include "tools/msb/verbs.h"

namespace msb::cli {
namespace {

enum AttachOption : int { kKeys = kFirstVerbOption, kList, kSteal, kFormat };
constexpr std::array<Option, 4> kOptions = {{
    {kList, "list", 0, "", "List the sandbox's sessions"},
    {kSteal, "steal", 0, "", "Take the session over from whoever is attached"},
    {kKeys, "detach-keys", 0, "KEYS", "Keys that leave it running (ctrl-])"},
    {kFormat, "format", 0, "FORMAT", "Of the list: table or json"},
}};
const std::array<std::span<const Option>, 1> kTables = {kOptions};

std::string joined(const std::vector<std::string>& words) {
  std::string out;
  for (const std::string& word : words) out += (out.empty() ? "" : " ") + word;
  return out;
}

Result<int> list(supervisor::Sandbox& sandbox, Format format) {
  MSB_ASSIGN(const auto sessions, sandbox.sessions());
  if (format == Format::kJson) {
    JsonWriter out(JsonWriter::Style::kPretty);
    out.begin_array();
    for (const auto& session : sessions) {
      out.begin_object()
          .field("session", session.id)
          .field("pid", session.pid)
          .field("command", session.argv);
      out.field("user", session.user).field("tty", session.tty).field("detachable", session.detachable);
      out.field("attached", session.attached)
          .field("started_at", supervisor::format_rfc3339(session.started_ns));
      out.end_object();
    }
    out.end_array();
    print(std::move(out).take());
    return kExitOk;
  }
  std::vector<std::vector<std::string>> rows = {
      {"SESSION", "PID", "USER", "TTY", "ATTACHED", "STARTED", "COMMAND"}};
  for (const auto& session : sessions) {
    rows.push_back({std::to_string(session.id), std::to_string(session.pid), session.user,
                    session.tty ? "yes" : "no", session.attached ? "yes" : "no",
                    relative_time(session.started_ns, wall_clock_ns()), joined(session.argv)});
  }
  print(format_table(rows, {0, 0, 0, 0, 0, 0, 60}));
  return kExitOk;
}

Result<int> attach(const Parsed& args) {
  if (args.positionals.empty()) return usage_error("no sandbox is given");
  MSB_TRY(no_more_than(args, 2));
  MSB_ASSIGN(const Format format, parse_format(args.last(kFormat)));
  MSB_ASSIGN(const auto keys,
             flag_value("detach-keys", supervisor::parse_detach_keys(args.last(kKeys, "ctrl-]"))));
  std::uint64_t id = 0;
  if (args.positionals.size() == 2) {
    const auto number = supervisor::parse_decimal(args.positionals[1]);
    if (!number || *number == 0)
      return usage_error("\"" + std::string(args.positionals[1]) + "\" is not a session's number");
    id = *number;
  }
  MSB_ASSIGN(const supervisor::Home home, supervisor::Home::open());
  MSB_ASSIGN(supervisor::Sandbox sandbox, supervisor::Sandbox::open(home, args.positionals.front()));
  if (args.has(kList)) return list(sandbox, format);
  MSB_ASSIGN(const bool tty, wants_tty(false, false));
  hold_signals();
  MSB_ASSIGN(supervisor::ExecSession session, sandbox.attach(id, args.has(kSteal)));
  if (tty) {
    const auto terminal = this_terminal();
    MSB_TRY(session.resize(terminal.size));
  }
  MSB_ASSIGN(const SessionEnd end,
             run_session(session, {.tty = tty, .use_stdin = true, .detach_keys = keys}));
  if (end.kind == SessionEnd::Kind::kDetached) note("left running as session " + std::to_string(end.session));
  return finish_session(end, "the session", "attach");
}

}  // namespace

const Verb kAttachVerb = {
    "attach",
    "",
    Group::kSandboxes,
    "Return to a session that was left running",
    "[OPTIONS] NAME [SESSION]",
    "A session on a terminal is left with ctrl-] and goes on. exec -d starts one without a terminal.\n"
    "\n"
    "Examples:\n"
    "  msb attach dev\n"
    "  msb attach --list dev",
    kTables,
    Words::kOptionsAnywhere,
    kExitOwnFailure,
    attach,
    ""};

}  // namespace msb::cli
