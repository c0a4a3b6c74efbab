// SPDX-License-Identifier: Apache-2.0
// msb run: a sandbox and one command in it.
#include <array>
#include <optional>

#include "supervisor/grammar.h"
#include "tools/msb/cli.h"
#include "tools/msb/net_flags.h"
#include "tools/msb/session_io.h"
#include "tools/msb/spec_flags.h"
#include "tools/msb/spinner.h"
#include "tools/msb/verbs.h"

namespace msb::cli {
namespace {

using supervisor::Home;
using supervisor::Sandbox;
using supervisor::State;

enum RunOption : int { kDetach = kFirstVerbOption };
constexpr std::array<Option, 1> kOptions = {
    {{kDetach, "detach", 'd', "", "Leave it running and print its name"}}};
const std::array<std::span<const Option>, 4> kTables = {kOptions, command_options(), spec_options(),
                                                        net_options()};

// What the sandbox is left as when the command has ended.
enum class After : std::uint8_t { kLeave, kStop, kDiscard };

struct Ready {
  Sandbox sandbox;
  After after;
};

bool is_running(State state) {
  return state == State::kRunning || state == State::kStarting || state == State::kPaused;
}

// The sandbox of that name if there is one: started if need be. The flags that would shape a new one do not
// apply.
Result<std::optional<Ready>> reuse(const Home& home, const SpecFlags& flags) {
  auto sandbox = Sandbox::open(home, flags.spec.name);
  if (!sandbox.ok()) {
    if (sandbox.error().code == Errc::kNotFound) return std::optional<Ready>{};
    return std::move(sandbox).error();
  }
  if (flags.replace) {
    if (flags.replace_grace_ms != 0) {
      // What does not stop in time is ended by the removal.
      (void)sandbox->stop({.grace_ms = flags.replace_grace_ms}).ok();
    }
    MSB_TRY(sandbox->remove(true));
    return std::optional<Ready>{};
  }
  if (flags.shaped)
    note("note: \"" + flags.spec.name + "\" exists and is used as it is; --replace makes it anew");
  MSB_ASSIGN(const auto info, sandbox->info());
  if (is_running(info.state)) return std::optional<Ready>(Ready{std::move(sandbox).value(), After::kLeave});
  MSB_TRY(sandbox->start({.lifetime = supervisor::Lifetime::kAttached}));
  return std::optional<Ready>(Ready{std::move(sandbox).value(), After::kStop});
}

Result<int> run_detached(const Home& home, const Parsed& args, SpecFlags flags) {
  if (flags.replace) {
    MSB_TRY(reuse(home, flags));
  }
  supervisor::CreateOptions options;
  options.quiet = flags.quiet;
  options.main.emplace();
  options.main->argv.assign(args.command.begin(), args.command.end());
  options.main->log = !args.has(kCmdNoLog);
  std::optional<Spinner> spinner;
  options.on_boot = [&] { spinner.emplace("boot", !options.quiet); };
  MSB_ASSIGN(const Sandbox sandbox, Sandbox::create(home, std::move(flags.spec), options));
  print(sandbox.name() + "\n");
  return kExitOk;
}

Result<int> run(const Parsed& args) {
  MSB_ASSIGN(SpecFlags flags, spec_from_flags(args));
  MSB_ASSIGN(const bool tty, wants_tty(args.has(kCmdTty), args.has(kCmdNoTty)));
  MSB_ASSIGN(supervisor::ExecSpec command, command_from_flags(args));
  MSB_ASSIGN(const auto keys,
             flag_value("detach-keys", supervisor::parse_detach_keys(args.last(kCmdDetachKeys, "ctrl-]"))));
  const bool detach = args.has(kDetach);
  if (detach && (args.has(kCmdTty) || command.timeout_ms != 0))
    return usage_error("-d does not go with -t or --timeout");
  const bool named = !flags.spec.name.empty();
  if (!named) flags.spec.ephemeral = true;
  const bool ephemeral = flags.spec.ephemeral;
  MSB_ASSIGN(const Home home, Home::open());
  home.sweep();
  if (detach) return run_detached(home, args, std::move(flags));

  std::optional<Ready> ready;
  const std::string shell = flags.spec.shell.empty() ? "/bin/sh" : flags.spec.shell;
  if (named) {
    MSB_ASSIGN(ready, reuse(home, flags));
  }
  if (!ready) {
    supervisor::CreateOptions options;
    options.quiet = flags.quiet;
    options.start.lifetime = supervisor::Lifetime::kAttached;
    std::optional<Spinner> spinner;
    options.on_boot = [&] { spinner.emplace("boot", !options.quiet); };
    MSB_ASSIGN(Sandbox sandbox, Sandbox::create(home, std::move(flags.spec), options));
    ready.emplace(Ready{std::move(sandbox), ephemeral ? After::kDiscard : After::kStop});
  }
  const std::vector<std::string> words(args.command.begin(), args.command.end());
  MSB_ASSIGN(command.argv, ready->sandbox.command(words));
  if (command.argv.empty()) command.argv = {shell};

  if (tty) command.tty = this_terminal();
  command.stdin_open = true;
  hold_signals();
  MSB_ASSIGN(supervisor::ExecSession session, ready->sandbox.exec(command));
  MSB_ASSIGN(const SessionEnd end,
             run_session(session, {.tty = tty, .use_stdin = true, .detach_keys = keys}));
  const int code = finish_session(end, command.argv.front(), "run");
  switch (ready->after) {
    case After::kLeave:
      break;
    case After::kStop:
      MSB_TRY(ready->sandbox.stop({}));
      break;
    case After::kDiscard:
      MSB_TRY(ready->sandbox.discard());
      break;
  }
  return code;
}

}  // namespace

const Verb kRunVerb = {"run",
                       "",
                       Group::kSandboxes,
                       "Run a command in a sandbox",
                       "[OPTIONS] IMAGE [[--] COMMAND...]",
                       "Makes a sandbox from IMAGE, runs COMMAND (or what the image says) in it and passes "
                       "its input, output, signals\n"
                       "and exit code through. An unnamed sandbox is gone afterwards; a named one is "
                       "stopped, keeps its files and is\n"
                       "used again by the next run of that name.\n"
                       "\n"
                       "Exit codes: the command's; 128+n when signal n ended it; 127 not found; 126 not "
                       "executable; 125 msb itself.\n"
                       "\n"
                       "Examples:\n"
                       "  msb run debian\n"
                       "  msb run python:3 -- python -c 'print(6*7)'\n"
                       "  tar c . | msb run -n build gcc:13 -- sh -c 'mkdir w && cd w && tar x && make'\n"
                       "  msb run -d -n web -p 8080:80 nginx",
                       kTables,
                       Words::kCommandLast,
                       kExitOwnFailure,
                       run,
                       ""};

}  // namespace msb::cli
