// SPDX-License-Identifier: Apache-2.0
// msb shell: the sandbox's shell, or a script for it.
#include <array>

#include "supervisor/grammar.h"
#include "tools/msb/session_io.h"
#include "tools/msb/spec_flags.h"
#include "tools/msb/verbs.h"

namespace msb::cli {
namespace {

const std::array<std::span<const Option>, 1> kTables = {command_options()};

Result<int> shell(const Parsed& args) {
  if (args.positionals.empty()) return usage_error("no sandbox is given");
  MSB_ASSIGN(const bool tty, wants_tty(args.has(kCmdTty), args.has(kCmdNoTty)));
  MSB_ASSIGN(supervisor::ExecSpec command, command_from_flags(args));
  MSB_ASSIGN(const auto keys,
             flag_value("detach-keys", supervisor::parse_detach_keys(args.last(kCmdDetachKeys, "ctrl-]"))));
  MSB_ASSIGN(const supervisor::Home home, supervisor::Home::open());
  MSB_ASSIGN(supervisor::Sandbox sandbox, supervisor::Sandbox::open(home, args.positionals.front()));
  MSB_ASSIGN(const auto info, sandbox.info());
  command.argv = {info.spec.shell.empty() ? "/bin/sh" : info.spec.shell};
  if (!args.command.empty()) {
    std::string script;
    for (const std::string_view word : args.command)
      script += (script.empty() ? "" : " ") + std::string(word);
    command.argv.insert(command.argv.end(), {"-c", std::move(script)});
  }
  if (tty) command.tty = this_terminal();
  command.stdin_open = true;
  command.detachable = tty;
  hold_signals();
  MSB_ASSIGN(supervisor::ExecSession session, sandbox.exec(command));
  MSB_ASSIGN(const SessionEnd end,
             run_session(session, {.tty = tty, .use_stdin = true, .detach_keys = keys}));
  if (end.kind == SessionEnd::Kind::kDetached) {
    note("left running as session " + std::to_string(end.session) + "; msb attach " + sandbox.name() +
         " returns to it");
  }
  return finish_session(end, command.argv.front(), "shell");
}

}  // namespace

const Verb kShellVerb = {"shell",
                         "sh",
                         Group::kSandboxes,
                         "Open the sandbox's shell",
                         "NAME [[--] SCRIPT...]",
                         "Examples:\n"
                         "  msb shell dev\n"
                         "  msb shell dev -- 'ls /etc | wc -l'",
                         kTables,
                         Words::kCommandLast,
                         kExitOwnFailure,
                         shell,
                         ""};

}  // namespace msb::cli
