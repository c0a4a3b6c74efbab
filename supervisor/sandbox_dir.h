// SPDX-License-Identifier: Apache-2.0
// The files of one sandbox's directory and what can be read from them.
//
//   spec.json    SandboxRecord: what was asked. Written once, by whoever creates the sandbox
//   vm.json      the last VmSpec handed to msb-vmm, for people
//   state.json   StateFile: written by msb-vmm while it runs and when it ends
//   lock         flock held by msb-vmm for its whole life
//   ephemeral    empty, there once a sandbox that vanishes at its end was started: what a crash leaves is
//   swept ops.lock     flock held by whoever starts, stops or removes the sandbox, for as long as that takes
//   upper.ext4   the writable disk
//   logs/ run/   log files; sockets
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "supervisor/spec.h"
#include "supervisor/supervisor.h"

namespace msb::supervisor {

struct SandboxRecord {
  SandboxSpec spec;
  std::string image_reference;  // canonical
  std::string manifest_digest;  // "sha256:..."
  std::string image_file;       // below $MSB_HOME, as the image store named it
  std::int64_t created_ns = 0;
  std::string main_json;  // ExecRequest of a detached run, as JSON text; empty: none
};
[[nodiscard]] std::string record_to_json(const SandboxRecord& record);
[[nodiscard]] Result<SandboxRecord> record_from_json(std::string_view json);
// The few members of it that a listing shows, at a fraction of the work.
struct RecordSummary {
  std::string image;
  std::vector<Label> labels;
  std::int64_t created_ns = 0;
};
[[nodiscard]] Result<RecordSummary> record_summary_from_json(std::string_view json);
// The text of a spec.json at `path` below `dir_fd`.
[[nodiscard]] Result<std::string> read_record(int dir_fd, const std::string& path = "spec.json");

// state.json.
struct StateFile {
  std::string state;  // "starting", "running", "stopping", "stopped"
  std::string boot_id;
  pid_t pid = 0;
  std::uint64_t start_time = 0;  // field 22 of /proc/PID/stat: clock ticks since the host's boot
  std::int64_t started_ns = 0;
  std::optional<Ending> ending;
};
[[nodiscard]] StateFile state_from_json(std::string_view json);
// A file that is not there, or whose text is no state, reads as a sandbox that never ran. One that cannot be
// read is an error: nobody may take a sandbox that runs for one that does not.
[[nodiscard]] Result<StateFile> read_state(int dir_fd, const std::string& path = "state.json");
// What the control socket's "wait" answers; nullopt when it names no reason.
[[nodiscard]] std::optional<Ending> ending_from_json(std::string_view json);

// What the host says: which boot this is, and whether a process is the one that was recorded and no zombie.
[[nodiscard]] Result<std::string> boot_id();
[[nodiscard]] Result<bool> is_alive(pid_t pid, std::uint64_t start_time);

struct DerivedState {
  State state = State::kCreated;
  std::optional<Ending> ending;  // of the last run

  // No machine runs there, nor comes up.
  [[nodiscard]] bool is_over() const {
    return state == State::kCreated || state == State::kStopped || state == State::kCrashed;
  }
};
// What the file claims, held against reality.
[[nodiscard]] Result<DerivedState> derive_state(const StateFile& file);

// Waits until no msb-vmm holds "lock" below `dir_fd`; kBusy when `deadline` passes first.
[[nodiscard]] Status wait_for_end(int dir_fd, Deadline deadline);
// Takes an exclusive flock on `name` (made if missing) below `dir_fd`; kBusy when `deadline` passes first.
[[nodiscard]] Result<UniqueFd> lock_file(int dir_fd, const std::string& name, Deadline deadline);

}  // namespace msb::supervisor
