// SPDX-License-Identifier: Apache-2.0
// Files: whole reads with a cap, exact reads and writes, and the one way state files are replaced.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "base/result.h"
#include "base/unique_fd.h"

namespace msb {

// open(2) with O_CLOEXEC added. `dir_fd` may be AT_FDCWD.
[[nodiscard]] Result<UniqueFd> open_at(int dir_fd, const std::string& path, int flags, mode_t mode = 0600);
[[nodiscard]] Result<UniqueFd> open_file(const std::string& path, int flags, mode_t mode = 0600);

// Reads to end of file; kLimit once more than `max_bytes` came.
[[nodiscard]] Result<std::string> read_all(int fd, std::size_t max_bytes);
[[nodiscard]] Result<std::string> read_file(const std::string& path, std::size_t max_bytes);
// Writes every byte of `data`, retrying short writes and EINTR; for blocking descriptors.
[[nodiscard]] Status write_all(int fd, std::string_view data);
// Reads or writes exactly data.size() bytes at `offset`; a short file is kCorrupt.
[[nodiscard]] Status pread_exact(int fd, MutableBytes data, std::uint64_t offset);
[[nodiscard]] Status pwrite_exact(int fd, ByteView data, std::uint64_t offset);

enum class Durability : std::uint8_t {
  kSynced,    // file and directory reach the disk before this returns
  kBuffered,  // atomic for readers, but a host crash may lose it
};
// Replaces `dir_fd`/`name` as a whole: temporary name, write, (sync), rename. Readers see the old or the new
// file, never a mixture. The temporary file is removed on failure. `name` holds no slash.
[[nodiscard]] Status write_file_atomic(int dir_fd, const std::string& name, std::string_view data,
                                       mode_t mode = 0600, Durability durability = Durability::kSynced);

// mkdir -p with `mode` for each directory it makes; existing ones are left as they are.
[[nodiscard]] Status make_directories(const std::string& path, mode_t mode = 0700);
// Removes `name` below `dir_fd` and all it holds, never following a symbolic link. A missing name is success.
[[nodiscard]] Status remove_tree(int dir_fd, const std::string& name);
// Renames `name` below `dir_fd` to one that begins with ".rm-" and returns that: it is out of sight and its
// name free at once, while remove_tree of the result may take long. Whoever finds such a name may remove it.
[[nodiscard]] Result<std::string> hide_tree(int dir_fd, const std::string& name);

// Absolute path of the running program's file, from /proc/self/exe.
[[nodiscard]] Result<std::string> executable_path();
// Lexical: all before the last slash ("/" and "." where there is none).
[[nodiscard]] std::string parent_path(std::string_view path);

}  // namespace msb
