// SPDX-License-Identifier: Apache-2.0
// The lines of a sandbox's logs: audit.log (the network proxy's decisions), exec.log (JSON lines, what its
// commands wrote), console.log (the guest's kernel) and vmm.log, net.log (our own programs), with their
// rotated predecessors.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"

namespace msb::cli {

struct LogEntry {
  std::int64_t time_ns = 0;  // wall clock; 0 where the line has none
  std::string time;          // as it stands in the log
  std::string source;        // stdout, stderr, output (a terminal), system, network
  std::optional<std::uint64_t> session;
  std::string data;        // bytes as the command wrote them
  std::uint64_t lost = 0;  // bytes lost just before these
  bool binary = false;     // was stored as base64: not UTF-8
  std::string record;      // network: the whole record, JSON
};

// One line of exec.log: {"t":ns,"s":"out"|"err"|"tty","id":session,"d":text or "d64":base64,"x":bytes lost},
// or the end of a session {"t","id","e":{"code"|"signal"}}. kCorrupt for what is none.
[[nodiscard]] Result<LogEntry> parse_log_line(std::string_view line);
// One line of audit.log: the network proxy's record of a decision, as JSON. Its data is one line for people.
[[nodiscard]] Result<LogEntry> parse_audit_line(std::string_view line);
[[nodiscard]] std::string log_entry_json(const LogEntry& entry);

// Follows one file through its rotations (NAME -> NAME.1 -> NAME.2 ...), line by line.
class LogFile {
 public:
  // `logs_fd` (borrowed) is the directory.
  LogFile(int logs_fd, std::string name) : logs_fd_(logs_fd), name_(std::move(name)) {}
  // Lines complete since the last call, oldest first; the first call begins with the rotated files. A file
  // that has been rotated away meanwhile is read to its end before its successor.
  [[nodiscard]] Result<std::vector<std::string>> read_new();
  // What came without a newline at the end; for when no more will come.
  [[nodiscard]] std::string take_partial();

 private:
  Status drain(int fd, std::vector<std::string>& out);
  Status open_current();

  int logs_fd_;
  std::string name_;
  bool started_ = false;
  UniqueFd file_;
  std::uint64_t inode_ = 0;
  std::string partial_;
};

}  // namespace msb::cli
