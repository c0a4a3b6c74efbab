// SPDX-License-Identifier: Apache-2.0
// What a Sandbox handle holds, shared by the files that implement it.
#pragma once

#include <string>

#include "supervisor/frame_link.h"
#include "supervisor/sandbox_dir.h"
#include "supervisor/supervisor.h"

namespace msb::supervisor {

struct Sandbox::Impl {
  std::string home_path;
  std::string name;
  UniqueFd sandboxes;  // the directory that holds all sandboxes
  UniqueFd directory;  // this one's
  UniqueFd leash;      // attached: its closing stops the sandbox
  bool create_failed = false;

  [[nodiscard]] std::string path() const { return home_path + "/sandboxes/" + name; }
  [[nodiscard]] Result<SandboxRecord> record() const;
  [[nodiscard]] Result<StateFile> state_file() const;
  [[nodiscard]] Result<DerivedState> derived() const;
  // Takes ops.lock and makes sure that the directory is still the sandbox of this name.
  [[nodiscard]] Result<UniqueFd> lock_operations(Deadline deadline) const;
  // start(), with ops.lock held.
  [[nodiscard]] Status boot(const SandboxRecord& record, const StartOptions& options);
  [[nodiscard]] Status start_locked(const StartOptions& options);
  // One request on the control socket.
  [[nodiscard]] Result<std::string> control(const std::string& request, Deadline deadline) const;
  // Renames it out of sight, then removes what is left. Success when it is gone already.
  [[nodiscard]] Status remove_files() const;
  // Ends the processes of a running sandbox at once: by request, else by signal; waits until they are gone.
  [[nodiscard]] Status force_end(Deadline deadline) const;
};

// Writes what a spec's patches say into the running sandbox (file_transfer.cc).
[[nodiscard]] Status apply_patches(Sandbox& sandbox, const std::vector<Patch>& patches);

}  // namespace msb::supervisor
