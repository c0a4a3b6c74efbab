// SPDX-License-Identifier: Apache-2.0
// The file operations that need no conversation: path in, answer out. They may block.
#pragma once

#include <sys/stat.h>

#include <optional>
#include <string>

#include "base/bytes.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "proto/file_ops.h"

namespace msb::agent {

// An absolute path: relative ones start at "/".
[[nodiscard]] std::string absolute(const std::string& path);
[[nodiscard]] proto::FileInfo to_file_info(const struct stat& info);

// Runs stat to realpath as the request says. `info` and `path` are set by the ops that answer with them. Not
// for read, write, readdir, watch and the tree transfers.
struct FileAnswer {
  std::optional<proto::FileInfo> info;
  std::optional<std::string> path;
};
[[nodiscard]] Result<FileAnswer> run_file_op(const proto::FileRequest& request);

// lstat, with the target of a link.
[[nodiscard]] Result<proto::FileInfo> describe(int dir_fd, const std::string& name);

// A file being written: under a temporary name beside its place when that is how the request wants it.
class FileSink {
 public:
  [[nodiscard]] static Result<FileSink> open(const proto::FileRequest& request);
  FileSink(FileSink&&) = default;
  FileSink& operator=(FileSink&&) = delete;
  // Removes what is not finished.
  ~FileSink();
  [[nodiscard]] Status write(ByteView data);
  // Puts the file in place.
  [[nodiscard]] Result<proto::FileInfo> finish();

 private:
  FileSink() = default;
  UniqueFd fd_;
  std::string path_;       // final
  std::string temporary_;  // empty: written in place
  bool no_replace_ = false;
};

}  // namespace msb::agent
