// SPDX-License-Identifier: Apache-2.0
#include "net/pcap.h"

#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "base/file.h"
#include "base/wire.h"

namespace msb::net {
namespace {
struct FileHeader {
  Le32 magic = 0xa1b23c4d;  // nanoseconds
  Le16 major = 2;
  Le16 minor = 4;
  Le32 zone;
  Le32 accuracy;
  Le32 snap;
  Le32 link = 1;  // Ethernet
};
static_assert(sizeof(FileHeader) == 24 && WireStruct<FileHeader>);
struct RecordHeader {
  Le32 seconds;
  Le32 nanoseconds;
  Le32 captured;
  Le32 length;
};
static_assert(sizeof(RecordHeader) == 16 && WireStruct<RecordHeader>);
constexpr std::size_t kMaxParts = 6;
}  // namespace

Result<PcapWriter> PcapWriter::create(UniqueFd file, std::uint64_t max_bytes, std::uint32_t snap) {
  FileHeader header;
  header.snap = snap;
  std::string raw(sizeof header, '\0');
  std::memcpy(raw.data(), &header, sizeof header);
  MSB_TRY(write_all(file.get(), raw).with_context("write the capture"));
  PcapWriter out(std::move(file), max_bytes, snap);
  out.bytes_ = raw.size();
  return out;
}

PcapWriter::State PcapWriter::write(std::span<const ByteView> parts, std::int64_t wall_ns) {
  if (state_ != State::kWriting || parts.size() > kMaxParts) return state_;
  std::size_t length = 0;
  for (const ByteView part : parts) length += part.size();
  RecordHeader header;
  header.seconds = static_cast<std::uint32_t>(wall_ns / 1'000'000'000);
  header.nanoseconds = static_cast<std::uint32_t>(wall_ns % 1'000'000'000);
  header.captured = static_cast<std::uint32_t>(std::min<std::size_t>(length, snap_));
  header.length = static_cast<std::uint32_t>(length);
  const std::size_t size = sizeof header + header.captured.get();
  if (max_bytes_ != 0 && (bytes_ > max_bytes_ || size > max_bytes_ - bytes_)) return state_ = State::kFull;
  std::array<iovec, kMaxParts + 1> vectors{};
  std::size_t count = 0;
  vectors[count++] = {&header, sizeof header};
  std::size_t left = header.captured.get();
  for (const ByteView part : parts) {
    const std::size_t take = std::min(left, part.size());
    if (take == 0) break;
    vectors[count++] = {const_cast<std::uint8_t*>(part.data()), take};
    left -= take;
  }
  const ssize_t wrote = ::writev(file_.get(), vectors.data(), static_cast<int>(count));
  if (wrote != static_cast<ssize_t>(size)) return state_ = State::kFailed;
  bytes_ += size;
  return state_;
}

}  // namespace msb::net
