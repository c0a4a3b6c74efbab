// SPDX-License-Identifier: Apache-2.0
// Watching a file or directory (inotify) for a client, until it goes away.
#pragma once

#include "base/result.h"
#include "guest-agent/frame_stream.h"
#include "proto/file_ops.h"

namespace msb::agent {

// A recursive watch covers at most so many directories; those beyond are reported once as overflow.
inline constexpr std::size_t kMaxWatchedDirectories = 8192;

// Answers REPLY {}, then sends EVENT frames. Returns when the client is gone (success) or the watch cannot be
// made.
[[nodiscard]] Status serve_watch(const proto::FileRequest& request, FrameStream& stream);

}  // namespace msb::agent
