// SPDX-License-Identifier: Apache-2.0
// Every verb's table entry, and the little that several verbs do alike.
#pragma once

#include "tools/msb/cli.h"

namespace msb::cli {

extern const Verb kRunVerb, kCreateVerb, kStartVerb, kStopVerb, kRestartVerb, kKillVerb, kWaitVerb,
    kRemoveVerb;
extern const Verb kExecVerb, kShellVerb, kAttachVerb, kCopyVerb, kLogsVerb, kEventsVerb;
extern const Verb kListVerb, kProcessesVerb, kInspectVerb, kPingVerb, kTouchVerb;
extern const Verb kImageVerb, kPullVerb, kLoadVerb, kSaveVerb, kRegistryVerb;
extern const Verb kDoctorVerb, kCompletionVerb, kVersionVerb, kNetVerb;

// The command options (-t, --timeout, ...) that make an ExecSpec without argv.
[[nodiscard]] Result<supervisor::ExecSpec> command_from_flags(const Parsed& args);
// Opens NAME, the only positional.
[[nodiscard]] Result<supervisor::Sandbox> open_only(const Parsed& args);
[[nodiscard]] Status no_more_than(const Parsed& args, std::size_t positionals);

}  // namespace msb::cli
