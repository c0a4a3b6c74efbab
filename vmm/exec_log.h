// SPDX-License-Identifier: Apache-2.0
// ExecLog: what logged sessions print, as JSON lines in a rotated file:
// {"t":ns,"s":"out"|"err"|"tty","id":session, "d":"text"} or "d64" for bytes that are not UTF-8;
// "e":{"code":0} when a session ends; "x":n for bytes lost.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"
#include "proto/agent.h"
#include "vmm/rotated_file.h"

namespace msb::vmm {

class ExecLog {
 public:
  // As RotatedFile::open().
  [[nodiscard]] static Result<ExecLog> open(int dir_fd, std::string name, std::uint64_t max_bytes,
                                            std::uint64_t files);
  void output(std::uint64_t session, proto::LogStream stream, std::uint64_t dropped, std::string_view data);
  void ended(std::uint64_t session, const proto::Exit& exit);

 private:
  explicit ExecLog(RotatedFile file) : file_(std::move(file)) {}

  RotatedFile file_;
};

}  // namespace msb::vmm
