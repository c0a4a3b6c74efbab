// SPDX-License-Identifier: Apache-2.0
// File operations in the guest: requests, what describes a file, and the entries of a tree transfer.
//
// Conversations on a connection to kAgentPort, after HELLO:
//   read      -> REPLY FileInfo, DATA..., DATA_EOF
//   write     <- DATA..., DATA_EOF; then REPLY FileInfo. A connection that ends before DATA_EOF changes
//   nothing
//                with `replace` and `create_new`.
//   readdir   -> ENTRY {"entries":[...]}..., then REPLY {}
//   readlink, realpath -> REPLY {"path":...}
//   tree_out  -> (ENTRY TreeEntry, for a regular file followed by DATA..., DATA_EOF)..., DATA_EOF, REPLY {}
//   tree_in   <- the same stream without the REPLY; then REPLY {}
//   watch     -> REPLY {}, then EVENT WatchEvent... until the client goes away
//   others    -> REPLY {} (stat, lstat: REPLY FileInfo)
// A failure at any point is ERROR, and the connection ends.
//
// Links. Operations act as the guest's root and resolve paths as open(2) does, links followed, except: lstat,
// readlink, remove, rename, symlink and hardlink act on a last component that is a link; chown and utime do
// unless `follow` is set. `replace` puts a new file in place of a link's target, as an editor would. Within a
// tree transfer no link is ever followed below the starting point.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/result.h"

namespace msb::proto {

inline constexpr std::size_t kMaxPathBytes = 4095;
inline constexpr std::size_t kMaxNameBytes = 255;

enum class FileOp : std::uint8_t {
  kStat,
  kLstat,
  kReaddir,
  kRead,
  kWrite,
  kMkdir,
  kRemove,
  kRename,
  kCopy,
  kChmod,
  kChown,
  kUtime,
  kTruncate,
  kSymlink,
  kHardlink,
  kReadlink,
  kRealpath,
  kWatch,
  kTreeOut,
  kTreeIn,
};
[[nodiscard]] std::string_view file_op_name(FileOp op);
[[nodiscard]] std::optional<FileOp> file_op_from_name(std::string_view name);

enum class WriteMode : std::uint8_t {
  kReplace,    // "replace": new file under a temporary name, renamed over the old one at the end
  kCreateNew,  // "create_new": fails with exists when there is one
  kTruncate,   // "truncate": the same inode is emptied and written (devices and pipes too)
  kAppend,     // "append"
  kUpdate,     // "update": written at `offset`, the rest stays
};

// One request; which members an op uses is said beside each, the others are refused in its JSON.
struct FileRequest {
  FileOp op = FileOp::kStat;
  std::string path;          // all; absolute, or relative to "/"
  std::string to;            // rename, copy: new path; symlink, hardlink: what the new `path` points to
  std::uint64_t offset = 0;  // read, write (update)
  std::optional<std::uint64_t> length;         // read: at most so many bytes; truncate: new size (required)
  WriteMode write_mode = WriteMode::kReplace;  // write: "how"
  std::optional<std::uint32_t> mode;  // write, mkdir: permission bits of what is made; chmod (required)
  std::string owner;  // write, mkdir, tree_in: "user[:group]" of what is made; chown (required)
  std::optional<std::int64_t> mtime_ns;  // utime
  std::optional<std::int64_t> atime_ns;  // utime
  bool parents = false;                  // write, mkdir, tree_in: make missing directories of the path
  bool recursive = false;                // remove, copy, chmod, chown, watch
  bool missing_ok = false;               // remove
  bool no_replace = false;               // rename, copy: fail with exists instead of replacing
  bool follow = false;  // chown, utime: act on what a link points to; tree_out: start at its target

  void write(JsonWriter& out) const;  // with "op"
  [[nodiscard]] static Result<FileRequest> parse(FileOp op, const JsonView& value);
};

enum class FileKind : std::uint8_t { kFile, kDirectory, kSymlink, kFifo, kSocket, kCharDevice, kBlockDevice };
[[nodiscard]] std::string_view file_kind_name(
    FileKind kind);  // "file", "dir", "symlink", "fifo", "socket", "char", "block"
[[nodiscard]] FileKind file_kind_from_mode(std::uint32_t st_mode);

struct FileInfo {
  FileKind kind = FileKind::kFile;
  std::uint32_t mode = 0;  // permission bits, 07777
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  std::uint64_t size = 0;
  std::uint64_t nlink = 0;
  std::uint64_t inode = 0;
  std::uint64_t device = 0;
  std::uint64_t rdev = 0;  // devices: dev_t as the guest encodes it
  std::int64_t mtime_ns = 0;
  std::int64_t atime_ns = 0;
  std::int64_t ctime_ns = 0;
  std::string target;  // symlink
  void write(JsonWriter& out) const;
  [[nodiscard]] static Result<FileInfo> parse(const JsonView& value);
  void write_members(JsonWriter& out) const;  // the members alone, for objects that hold more
};

struct DirEntry {
  std::string name;
  FileInfo info;
};
// ENTRY of readdir: some entries, in no order; "." and ".." are not among them.
struct DirBatch {
  std::vector<DirEntry> entries;
  void write(JsonWriter& out) const;
  [[nodiscard]] static Result<DirBatch> parse(const JsonView& value);
};

// REPLY of readlink and realpath.
struct PathReply {
  std::string path;
  void write(JsonWriter& out) const;
  [[nodiscard]] static Result<PathReply> parse(const JsonView& value);
};

// ENTRY of a tree transfer. Paths are relative to the starting point, "" is the starting point itself, which
// comes first; a directory comes before what it holds. parse() refuses absolute paths and any "", "." or ".."
// component, so that a receiver cannot be led outside by a name.
struct TreeEntry {
  std::string path;
  FileKind kind = FileKind::kFile;
  std::uint32_t mode = 0;            // permission bits
  std::optional<std::uint32_t> uid;  // absent: whoever receives decides
  std::optional<std::uint32_t> gid;
  std::optional<std::int64_t> mtime_ns;
  std::uint64_t size = 0;  // file: what it was when the transfer of it began, for progress only
  std::uint64_t rdev = 0;  // char, block
  std::string target;      // symlink: the link's text
  std::string
      link;  // file: path of an earlier entry of this transfer that is the same inode; no DATA follows
  void write(JsonWriter& out) const;
  [[nodiscard]] static Result<TreeEntry> parse(const JsonView& value);
};
// True for "a/b": not empty, relative, no empty, "." or ".." component, no NUL, within the path and name
// limits.
[[nodiscard]] bool is_plain_relative_path(std::string_view path);

struct WatchEvent {
  enum class Kind : std::uint8_t {
    kCreate,
    kModify,
    kCloseWrite,
    kDelete,
    kMovedFrom,
    kMovedTo,
    kAttrib,
    kOverflow
  };
  Kind kind = Kind::kModify;
  std::string path;  // relative to the watched path, "" for itself
  bool directory = false;
  std::uint32_t cookie = 0;  // pairs moved_from with moved_to
  void write(JsonWriter& out) const;
  [[nodiscard]] static Result<WatchEvent> parse(const JsonView& value);
};

}  // namespace msb::proto
