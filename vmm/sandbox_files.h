// SPDX-License-Identifier: Apache-2.0
// The supervisor role's files: the sandbox's directory and lock, its logs and sockets, and the descriptors
// that the machine role gets.
#pragma once

#include <string>

#include "base/result.h"
#include "base/unique_fd.h"
#include "proto/vm_spec.h"
#include "vmm/machine_spec.h"

namespace msb::vmm {

struct SandboxFiles {
  UniqueFd directory;
  UniqueFd lock;  // held for the sandbox's life
  UniqueFd logs;
  UniqueFd run;
  UniqueFd control_listener;
};

// Opens `spec.dir`, takes its lock (kBusy when another process has it), makes logs/ and run/.
[[nodiscard]] Result<SandboxFiles> open_sandbox(const proto::VmSpec& spec);
// Opens everything the guest is made of. Writable disks are locked (kBusy). Errors name the file.
[[nodiscard]] Result<MachineSpec> open_machine_files(const proto::VmSpec& spec, const SandboxFiles& files);

// The end of an ephemeral sandbox. hide_sandbox renames its directory, so that no command finds it and its
// name is free (base/file.h: hide_tree); the path it has then is for remove_sandbox, which may take longer.
// What a crash leaves of either, a later command sweeps (supervisor/home.cc).
[[nodiscard]] Result<std::string> hide_sandbox(const std::string& dir);
[[nodiscard]] Status remove_sandbox(const std::string& hidden);

// state.json: who runs the sandbox, or how it ended.
class StateFile {
 public:
  // `dir_fd` is borrowed.
  explicit StateFile(int dir_fd);
  // "starting", "running", "paused", "stopping".
  [[nodiscard]] Status write(std::string_view state);
  // "stopped", with the JSON object that tells the end.
  [[nodiscard]] Status write_end(const std::string& end_json);
  [[nodiscard]] std::int64_t started_ns() const { return started_ns_; }

 private:
  [[nodiscard]] std::string common(std::string_view state) const;
  int dir_fd_;
  std::string boot_id_;
  std::uint64_t start_time_ = 0;  // of this process, in clock ticks since boot: /proc/PID/stat field 22
  std::int64_t started_ns_;
};

}  // namespace msb::vmm
