// SPDX-License-Identifier: Apache-2.0
// Captures of the link in the classic pcap format (nanosecond variant), readable by tcpdump and tshark.
#pragma once

#include <cstdint>
#include <span>

#include "base/bytes.h"
#include "base/result.h"
#include "base/unique_fd.h"

namespace msb::net {

class PcapWriter {
 public:
  enum class State : std::uint8_t {
    kWriting,
    kFull,    // the next frame would pass the limit
    kFailed,  // a failed or short write (disk full)
  };
  // Writes the file header. The file grows to `max_bytes` at most (0: no limit); `snap` bytes of each frame
  // are kept.
  [[nodiscard]] static Result<PcapWriter> create(UniqueFd file, std::uint64_t max_bytes,
                                                 std::uint32_t snap = 65600);
  // One frame, given in parts. Once the state is not kWriting nothing more is written, so that what the file
  // holds is every frame up to some moment.
  State write(std::span<const ByteView> parts, std::int64_t wall_ns);
  [[nodiscard]] State state() const { return state_; }
  [[nodiscard]] std::uint64_t bytes() const { return bytes_; }

 private:
  PcapWriter(UniqueFd file, std::uint64_t max_bytes, std::uint32_t snap)
      : file_(std::move(file)), max_bytes_(max_bytes), snap_(snap) {}
  UniqueFd file_;
  std::uint64_t max_bytes_;
  std::uint64_t bytes_ = 0;
  std::uint32_t snap_;
  State state_ = State::kWriting;
};

}  // namespace msb::net
