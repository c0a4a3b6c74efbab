// SPDX-License-Identifier: Apache-2.0
// From what was asked (a sandbox's record, its image) to what msb-vmm is told (a VmSpec document).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "proto/agent.h"
#include "proto/guest_config.h"
#include "supervisor/image_store.h"
#include "supervisor/sandbox_dir.h"

namespace msb::supervisor {

inline constexpr std::string_view kScriptDirectory = "/.msb/scripts";

struct LaunchInput {
  std::string name;
  std::string directory;  // absolute
  const SandboxRecord* record = nullptr;
  const StoredImage* image = nullptr;
  const Installation* installation = nullptr;
  std::optional<int> leash_fd;  // numbers in msb-vmm
  std::optional<int> secrets_fd;
  int ready_fd = -1;
  std::int64_t clock_ns = 0;
  std::string entropy;
};

// What every session in the guest starts from: image, then spec.
[[nodiscard]] proto::GuestConfig guest_config(const LaunchInput& input);
// The VmSpec document. Only the copy that goes through the descriptor holds `entropy`.
[[nodiscard]] std::string vm_spec_json(const LaunchInput& input);

// The words to run for `msb run IMAGE [words]`: the entrypoint (spec over image) and then the words, or the
// command (spec over image) when there are none. An overridden entrypoint drops the image's command, as with
// Docker.
[[nodiscard]] std::vector<std::string> resolve_command(const SandboxSpec& spec, const ImageConfig& image,
                                                       const std::vector<std::string>& words);

// A host name from a sandbox's name: itself when it may be one, shortened and cleaned otherwise.
[[nodiscard]] std::string default_hostname(std::string_view name);

// ExecSpec in the agent's words.
[[nodiscard]] proto::ExecRequest to_request(const ExecSpec& spec);

}  // namespace msb::supervisor
