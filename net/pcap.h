// SPDX-License-Identifier: Apache-2.0
// Captures of the link in the classic pcap format (nanosecond variant), readable by tcpdump and tshark.
#pragma once

#include <span>

#include "base/bytes.h"
#include "base/result.h"
#include "base/unique_fd.h"

namespace msb::net {

class PcapWriter {
 public:
  // Writes the file header. `snap` bytes of each frame are kept.
  [[nodiscard]] static Result<PcapWriter> create(UniqueFd file, std::uint32_t snap = 65600);
  // One frame, given in parts. After a failed or short write (disk full) nothing more is written.
  void write(std::span<const ByteView> parts, std::int64_t wall_ns);

 private:
  PcapWriter(UniqueFd file, std::uint32_t snap) : file_(std::move(file)), snap_(snap) {}
  UniqueFd file_;
  std::uint32_t snap_;
  bool failed_ = false;
};

}  // namespace msb::net
