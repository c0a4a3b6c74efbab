// SPDX-License-Identifier: Apache-2.0
// What the guest prints: kept in a bounded file, and watched for the lines with which a kernel says goodbye.
//
// Theory of operation. The file holds at most `limit` bytes: when it is full, its later half moves to the
// front. A reader therefore always finds plain text, the newest last. The watcher looks at the beginning of
// each line only (the kernel's own prefix "[    1.234567] " skipped), and remembers the first farewell. Guest
// root can print such lines itself; it only decides then how its own end is called.
//
// Threads: write() from any (one mutex); a slow disk delays only the guest.
#pragma once

#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <string>

#include "base/bytes.h"
#include "base/unique_fd.h"
#include "devices/virtio/console.h"
#include "proto/exit_reason.h"

namespace msb::vmm {

// Finds farewells in a stream of bytes. Pure.
class FarewellScanner {
 public:
  // The reason that a line completed by `text` gives, if it is the first.
  [[nodiscard]] std::optional<proto::ExitReason> feed(ByteView text);
  // The line that gave the reason, without prefix.
  [[nodiscard]] const std::string& line() const { return farewell_; }

 private:
  [[nodiscard]] std::optional<proto::ExitReason> judge() const;
  std::string line_;  // the beginning of the current line, bounded
  std::string farewell_;
};

class GuestConsole final : public devices::ConsoleSink {
 public:
  using OnFarewell = std::function<void(proto::ExitReason, const std::string& line)>;
  // `file` may be none: then nothing is kept. `on_farewell` is called at most once, from write()'s thread.
  GuestConsole(UniqueFd file, std::uint64_t limit, OnFarewell on_farewell);
  void write(ByteView text) override;

 private:
  void append(ByteView text);
  [[nodiscard]] bool make_room();

  std::mutex mutex_;
  UniqueFd file_;
  const std::uint64_t limit_;
  std::uint64_t size_ = 0;
  FarewellScanner scanner_;
  OnFarewell on_farewell_;
};

}  // namespace msb::vmm
