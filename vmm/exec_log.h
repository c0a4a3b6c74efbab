// SPDX-License-Identifier: Apache-2.0
// ExecLog: what logged sessions print, as JSON lines in a rotated file:
// {"t":ns,"s":"out"|"err"|"tty","id":session, "d":"text"} or "d64" for bytes that are not UTF-8;
// "e":{"code":0} when a session ends; "x":n for bytes lost.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"
#include "base/unique_fd.h"
#include "proto/agent.h"

namespace msb::vmm {

class ExecLog {
 public:
  // Opens (appending) or makes `name` in `dir_fd`, borrowed. At `max_bytes` it becomes name.1, name.1 becomes
  // name.2, ...; at most `files` are kept.
  [[nodiscard]] static Result<ExecLog> open(int dir_fd, std::string name, std::uint64_t max_bytes,
                                            std::uint64_t files);
  // Never fails: a full disk loses lines, not the sandbox.
  void output(std::uint64_t session, proto::LogStream stream, std::uint64_t dropped, std::string_view data);
  void ended(std::uint64_t session, const proto::Exit& exit);

 private:
  ExecLog(int dir_fd, std::string name, std::uint64_t max_bytes, std::uint64_t files, UniqueFd file,
          std::uint64_t size)
      : dir_fd_(dir_fd),
        name_(std::move(name)),
        max_bytes_(max_bytes),
        files_(files),
        file_(std::move(file)),
        size_(size) {}
  void line(const std::string& text);
  void rotate();

  int dir_fd_;
  std::string name_;
  std::uint64_t max_bytes_;
  std::uint64_t files_;
  UniqueFd file_;
  std::uint64_t size_;
};

}  // namespace msb::vmm
