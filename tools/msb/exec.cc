// SPDX-License-Identifier: Apache-2.0
// msb exec: a command in a sandbox that runs; one that is stopped is started for it and stopped afterwards.
#include <array>

#include "supervisor/grammar.h"
#include "supervisor/names.h"
#include "tools/msb/session_io.h"
#include "tools/msb/spec_flags.h"
#include "tools/msb/verbs.h"

namespace msb::cli {
namespace {

enum ExecOption : int {
  kEnv = kFirstVerbOption,
  kEnvFile,
  kUser,
  kWorkdir,
  kRlimit,
  kQuiet,
  kDetach,
  kRequireConfinement,
  kStream
};
constexpr std::array<Option, 9> kOptions = {{
    {kEnv, "env", 'e', "KEY[=VALUE]", "Environment variable; without a value, this one's"},
    {kEnvFile, "env-file", 0, "FILE", "Environment variables, one a line"},
    {kUser, "user", 'u', "USER[:GROUP]", "User (the sandbox's)"},
    {kWorkdir, "workdir", 'w', "PATH", "Working directory (the sandbox's)"},
    {kRlimit, "rlimit", 0, "NAME=SOFT[:HARD]", "Resource limit"},
    {kDetach, "detach", 'd', "", "Leave it running and print its session's number"},
    {kRequireConfinement, "require-confinement", 0, "", "Only in a sandbox that was made with it"},
    {kQuiet, "quiet", 'q', "", "No notes"},
    {kStream, "stream", 0, "", ""},
}};
const std::array<std::span<const Option>, 2> kTables = {kOptions, command_options()};

Result<int> detached(supervisor::Sandbox& sandbox, supervisor::ExecSpec command) {
  command.detachable = true;
  command.stdin_open = false;
  const std::string program = command.argv.front();
  MSB_ASSIGN(supervisor::ExecSession session, sandbox.exec(command));
  MSB_ASSIGN(const supervisor::ExecEvent event,
             session.wait_event(supervisor::deadline_after(std::chrono::seconds(30))));
  if (event.kind == supervisor::ExecEvent::Kind::kFailure) {
    SessionEnd end;
    end.kind = SessionEnd::Kind::kFailure;
    end.failure = event.failure;
    return finish_session(end, program, "exec");
  }
  const std::uint64_t id = event.session;
  MSB_TRY(session.detach());
  print(std::to_string(id) + "\n");
  return kExitOk;
}

Result<int> exec(const Parsed& args) {
  if (args.positionals.empty()) return usage_error("no sandbox is given");
  MSB_ASSIGN(const bool tty, wants_tty(args.has(kCmdTty), args.has(kCmdNoTty) || args.has(kDetach)));
  MSB_ASSIGN(supervisor::ExecSpec command, command_from_flags(args));
  MSB_ASSIGN(const auto keys,
             flag_value("detach-keys", supervisor::parse_detach_keys(args.last(kCmdDetachKeys, "ctrl-]"))));
  MSB_ASSIGN(command.env, env_from_flags(args, kEnv, kEnvFile));
  command.user = args.last(kUser);
  command.workdir = args.last(kWorkdir);
  if (!command.user.empty()) {
    if (const auto valid = supervisor::check_user(command.user); !valid.ok())
      return usage_error(valid.error().text);
  }
  if (!command.workdir.empty()) {
    const auto valid = supervisor::check_guest_path(command.workdir);
    if (!valid.ok()) return usage_error(valid.error().text);
  }
  for (const std::string_view text : args.all(kRlimit)) {
    MSB_ASSIGN(auto limit, flag_value("rlimit", supervisor::parse_rlimit(text)));
    command.rlimits.push_back(std::move(limit));
  }
  command.argv.assign(args.command.begin(), args.command.end());
  if (command.argv.empty() && !tty) return usage_error("no command is given");

  MSB_ASSIGN(const supervisor::Home home, supervisor::Home::open());
  MSB_ASSIGN(supervisor::Sandbox sandbox, supervisor::Sandbox::open(home, args.positionals.front()));
  if (args.has(kRequireConfinement) || command.argv.empty()) {
    MSB_ASSIGN(const auto info, sandbox.info());
    // With it none of its processes started where a layer was missing.
    if (args.has(kRequireConfinement) && !info.spec.require_confinement) {
      return make_error(Errc::kUnavailable, "\"%s\" was made without --require-confinement",
                        info.name.c_str());
    }
    if (command.argv.empty()) command.argv = {info.spec.shell.empty() ? "/bin/sh" : info.spec.shell};
  }
  if (args.has(kDetach)) return detached(sandbox, std::move(command));
  if (tty) command.tty = this_terminal();
  command.stdin_open = true;
  command.detachable = tty;

  hold_signals();
  bool stop_after = false;
  auto session = sandbox.exec(command);
  if (!session.ok() && session.error().code == Errc::kUnavailable) {
    MSB_ASSIGN(const auto info, sandbox.info());
    const bool over = info.state == supervisor::State::kStopped ||
                      info.state == supervisor::State::kCrashed || info.state == supervisor::State::kCreated;
    if (!over) return std::move(session).error();
    // Attached: an msb that is killed meanwhile does not leave it running.
    MSB_TRY(sandbox.start({.lifetime = supervisor::Lifetime::kAttached}));
    stop_after = true;
    session = sandbox.exec(command);
  }
  if (!session.ok()) return std::move(session).error();
  MSB_ASSIGN(const SessionEnd end,
             run_session(*session, {.tty = tty, .use_stdin = true, .detach_keys = keys}));
  if (end.kind == SessionEnd::Kind::kDetached) {
    note("left running as session " + std::to_string(end.session) + "; msb attach " + sandbox.name() +
         " returns to it");
  }
  const int code = finish_session(end, command.argv.front(), "exec");
  if (stop_after) MSB_TRY(sandbox.stop({}));
  return code;
}

}  // namespace

const Verb kExecVerb = {
    "exec",
    "",
    Group::kSandboxes,
    "Run a command in a running sandbox",
    "[OPTIONS] NAME [[--] COMMAND...]",
    "Input, output, signals and the exit code pass through as they come. Without COMMAND, a terminal gets\n"
    "the sandbox's shell. A stopped sandbox is started for the command and stopped afterwards.\n"
    "\n"
    "Examples:\n"
    "  msb exec web -- ps aux\n"
    "  msb exec -e DEBUG=1 -u 1000 web -- ./run-tests\n"
    "  msb exec web -- tar c /etc | tar t",
    kTables,
    Words::kCommandLast,
    kExitOwnFailure,
    exec,
    ""};

}  // namespace msb::cli
