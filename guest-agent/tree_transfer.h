// SPDX-License-Identifier: Apache-2.0
// A directory tree over a connection, in both directions (proto/file_ops.h: tree_out, tree_in). Modes,
// owners, modification times, links, hard links and special files survive; no link is followed below the
// starting point.
#pragma once

#include <cstdint>
#include <optional>

#include "base/result.h"
#include "guest-agent/frame_stream.h"
#include "proto/file_ops.h"

namespace msb::agent {

// Sends the tree at request.path up to its end mark; the caller answers.
[[nodiscard]] Status send_tree(const proto::FileRequest& request, FrameStream& stream);
// Receives a tree and makes it at request.path. An existing directory there is merged into; existing files
// are replaced.
[[nodiscard]] Status receive_tree(const proto::FileRequest& request, FrameStream& stream);

// Contents of one open file as DATA frames and DATA_EOF, at most `limit` bytes.
[[nodiscard]] Status send_contents(int fd, std::optional<std::uint64_t> limit, FrameStream& stream);

}  // namespace msb::agent
