// SPDX-License-Identifier: Apache-2.0
// Walking and copying directory trees by descriptors, following no link on the way.
#pragma once

#include <sys/stat.h>

#include <functional>
#include <string>

#include "base/result.h"

namespace msb::agent {

// Deeper trees are refused: each level holds a descriptor and some stack.
inline constexpr int kMaxTreeDepth = 256;

struct WalkEntry {
  int dir_fd = -1;      // directory that holds it, borrowed
  std::string name;     // in that directory
  std::string path;     // relative to the starting point
  struct stat info {};  // of itself, links not followed
};

// Calls `visit` for everything below the directory `path` (which may be a link to one), a directory before
// what it holds. The first error ends the walk. What vanishes meanwhile is skipped.
[[nodiscard]] Status walk_tree(const std::string& path, const std::function<Status(const WalkEntry&)>& visit);

// Text of the link `name`.
[[nodiscard]] Result<std::string> read_link(int dir_fd, const std::string& name);

// Copies the contents of one open file to another, from their positions to the end of the first.
[[nodiscard]] Status copy_contents(int from, int to);

// Copies a file, link or device, or with `recursive` a directory and all below it, keeping modes, owners and
// modification times. An existing file at `to` is replaced unless `no_replace`; existing directories are
// merged.
[[nodiscard]] Status copy_tree(const std::string& from, const std::string& to, bool recursive,
                               bool no_replace);

}  // namespace msb::agent
