// SPDX-License-Identifier: Apache-2.0
// A command's input and output on this terminal or these pipes, signals included, until it ends.
//
// Theory of operation. One poll loop over the session's socket, stdin, stdout/stderr and a signalfd. Output
// is taken from the socket only when the last piece was written out, input only when the session has room:
// whoever is slow slows the other end, and nothing grows. Descriptors shared with other programs are never
// made non-blocking: writes follow a poll and are at most PIPE_BUF bytes on pipes and terminals.
#pragma once

#include <string>

#include "base/result.h"
#include "supervisor/supervisor.h"
#include "tools/msb/args.h"

namespace msb::cli {

struct SessionIo {
  bool tty = false;
  bool use_stdin = true;
  std::string detach_keys;  // raw bytes, tty only; empty: none
};

struct SessionEnd {
  enum class Kind : std::uint8_t { kExit, kFailure, kDetached, kOutputGone, kInterrupted };
  Kind kind = Kind::kExit;
  supervisor::ExecExit exit;
  supervisor::ExecFailure failure;
  std::uint64_t session = 0;
};

// Blocks the signals that are forwarded; call before anything starts that they should not end. Returns
// nothing to undo: msb ends after its session.
void hold_signals();
// Runs the session to its end. The terminal is in raw mode meanwhile and restored on every way out.
[[nodiscard]] Result<SessionEnd> run_session(supervisor::ExecSession& session, const SessionIo& io);

// Whether a session gets a terminal: `force` (-t), `forbid` (--no-tty), else when stdin and stdout are
// terminals.
[[nodiscard]] Result<bool> wants_tty(bool force, bool forbid);
// Size and type of this terminal.
[[nodiscard]] supervisor::ExecSpec::Tty this_terminal();

// Prints a failure to start and gives the exit code (127, 126, 125), or the code of the exit.
[[nodiscard]] int finish_session(const SessionEnd& end, const std::string& command, std::string_view verb);

}  // namespace msb::cli
