// SPDX-License-Identifier: Apache-2.0
#include "vmm/guest_console.h"

#include <unistd.h>

#include <algorithm>
#include <cstring>

namespace msb::vmm {
namespace {

constexpr std::size_t kMaxLine = 160;
constexpr std::uint64_t kMinLimit = 4096;
constexpr std::size_t kMoveChunk = 64 * 1024;

// "[    0.012345] text" -> "text"; also with a task or CPU id in brackets behind the time.
std::string_view without_prefix(std::string_view line) {
  for (int brackets = 0; brackets < 2 && !line.empty() && line.front() == '['; ++brackets) {
    const std::size_t close = line.find(']');
    if (close == std::string_view::npos) return line;
    line.remove_prefix(close + 1);
    while (!line.empty() && line.front() == ' ') line.remove_prefix(1);
  }
  return line;
}

}  // namespace

std::optional<proto::ExitReason> FarewellScanner::judge() const {
  const std::string_view text = without_prefix(line_);
  if (text.starts_with("Kernel panic - not syncing")) {
    const bool oom = text.find("Out of memory") != std::string_view::npos ||
                     text.find("deadlocked on memory") != std::string_view::npos;
    return oom ? proto::ExitReason::kGuestOom : proto::ExitReason::kGuestPanic;
  }
  if (text.starts_with("reboot: Power off not available") || text.starts_with("reboot: System halted") ||
      text.starts_with("reboot: Power down")) {
    return proto::ExitReason::kPoweroff;
  }
  return std::nullopt;
}

std::optional<proto::ExitReason> FarewellScanner::feed(ByteView text) {
  if (!farewell_.empty()) return std::nullopt;
  for (const std::uint8_t byte : text) {
    if (byte != '\n') {
      if (line_.size() < kMaxLine && byte != '\r') line_.push_back(static_cast<char>(byte));
      continue;
    }
    const auto reason = judge();
    if (reason) {
      farewell_ = without_prefix(line_);
      return reason;
    }
    line_.clear();
  }
  return std::nullopt;
}

GuestConsole::GuestConsole(UniqueFd file, std::uint64_t limit, OnFarewell on_farewell)
    : file_(std::move(file)), limit_(std::max(limit, kMinLimit)), on_farewell_(std::move(on_farewell)) {}

void GuestConsole::write(ByteView text) {
  std::optional<proto::ExitReason> reason;
  {
    const std::lock_guard lock(mutex_);
    append(text);
    reason = scanner_.feed(text);
  }
  if (reason && on_farewell_) on_farewell_(*reason, scanner_.line());
}

bool GuestConsole::make_room() {
  const std::uint64_t keep = size_ / 2;
  std::uint64_t from = size_ - keep;
  std::uint64_t to = 0;
  Bytes chunk(kMoveChunk);
  while (from < size_) {  // each step moves at least a byte
    const auto want = static_cast<std::size_t>(std::min<std::uint64_t>(kMoveChunk, size_ - from));
    const ssize_t got = ::pread(file_.get(), chunk.data(), want, static_cast<off_t>(from));
    if (got <= 0 ||
        ::pwrite(file_.get(), chunk.data(), static_cast<std::size_t>(got), static_cast<off_t>(to)) != got) {
      return false;
    }
    from += static_cast<std::uint64_t>(got);
    to += static_cast<std::uint64_t>(got);
  }
  size_ = to;
  return ::ftruncate(file_.get(), static_cast<off_t>(size_)) == 0;
}

void GuestConsole::append(ByteView text) {
  if (!file_) return;
  if (text.size() > limit_ / 2) text = text.last(static_cast<std::size_t>(limit_ / 2));
  if (text.size() > limit_ - size_ && !make_room()) {
    file_.reset();  // the disk is full or gone: the guest goes on without a record
    return;
  }
  // A short write means a full disk; the next one tries again at the same place.
  const ssize_t done = ::pwrite(file_.get(), text.data(), text.size(), static_cast<off_t>(size_));
  if (done > 0) size_ += static_cast<std::uint64_t>(done);
}

}  // namespace msb::vmm
