// SPDX-License-Identifier: Apache-2.0
#include "oci/decompress.h"

#define ZLIB_CONST  // next_in may point to const bytes
#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <cstring>

#include "base/wire.h"

namespace msb::oci {
namespace {

constexpr std::size_t kInputBuffer = 128 * 1024;
constexpr int kGzipWindow = 15 + 16;   // 32 KiB window, gzip wrapping only
constexpr int kMaxZstdWindowLog = 27;  // what zstd itself accepts unasked

Error damaged(const char* what) { return make_error(Errc::kProtocol, "decompress: %s", what); }

}  // namespace

struct Decompressor::State {
  z_stream zlib{};
  bool zlib_ready = false;
  ZSTD_DStream* zstd = nullptr;
  ~State() {
    if (zlib_ready) inflateEnd(&zlib);
    ZSTD_freeDStream(zstd);
  }
};

Compression detect_compression(ByteView start) {
  if (start.size() >= 2 && start[0] == 0x1f && start[1] == 0x8b) return Compression::kGzip;
  if (start.size() >= 4) {
    Le32 little_endian;
    std::memcpy(&little_endian, start.data(), sizeof little_endian);
    const std::uint32_t magic = little_endian.get();
    if (magic == ZSTD_MAGICNUMBER || (magic & ZSTD_MAGIC_SKIPPABLE_MASK) == ZSTD_MAGIC_SKIPPABLE_START)
      return Compression::kZstd;
  }
  return Compression::kNone;
}

Decompressor::Decompressor(ByteStream& input) : input_(input), state_(std::make_unique<State>()) {}
Decompressor::~Decompressor() = default;

// Makes pending_ non-empty unless the input has ended.
Status Decompressor::fill() {
  if (!pending_.empty() || input_ended_) return {};
  MSB_ASSIGN(const std::size_t n, input_.read(buffer_));
  pending_ = ByteView(buffer_).first(n);
  input_ended_ = n == 0;
  return {};
}

Status Decompressor::start() {
  started_ = true;
  buffer_.resize(kInputBuffer);
  std::size_t have = 0;
  while (have < 4 && !input_ended_) {
    MSB_ASSIGN(const std::size_t n, input_.read(MutableBytes(buffer_).subspan(have)));
    input_ended_ = n == 0;
    have += n;
  }
  pending_ = ByteView(buffer_).first(have);
  compression_ = detect_compression(pending_);
  if (compression_ == Compression::kGzip) {
    if (inflateInit2(&state_->zlib, kGzipWindow) != Z_OK) return make_error(Errc::kInternal, "start zlib");
    state_->zlib_ready = true;
  } else if (compression_ == Compression::kZstd) {
    state_->zstd = ZSTD_createDStream();
    if (state_->zstd == nullptr) return make_error(Errc::kInternal, "start zstd");
    if (ZSTD_isError(ZSTD_DCtx_setParameter(state_->zstd, ZSTD_d_windowLogMax, kMaxZstdWindowLog)) != 0)
      return make_error(Errc::kInternal, "start zstd");
  }
  return {};
}

Result<std::size_t> Decompressor::read(MutableBytes out) {
  if (!started_) MSB_TRY(start());
  switch (compression_) {
    case Compression::kGzip:
      return read_gzip(out);
    case Compression::kZstd:
      return read_zstd(out);
    case Compression::kNone:
      break;
  }
  if (pending_.empty()) return input_ended_ ? Result<std::size_t>(std::size_t{0}) : input_.read(out);
  const std::size_t take = std::min(out.size(), pending_.size());
  std::memcpy(out.data(), pending_.data(), take);
  pending_ = pending_.subspan(take);
  return take;
}

Result<std::size_t> Decompressor::read_gzip(MutableBytes out) {
  z_stream& z = state_->zlib;
  const auto room = static_cast<uInt>(std::min<std::size_t>(out.size(), 1U << 30));
  z.next_out = out.data();
  z.avail_out = room;
  while (z.avail_out == room) {
    MSB_TRY(fill());
    if (pending_.empty()) {
      if (between_frames_) return std::size_t{0};
      return damaged("the gzip stream ends early");
    }
    if (between_frames_) {
      // After a member comes another one, or zeros that pad to some block size.
      if (padding_ || pending_[0] == 0) {
        padding_ = true;
        if (std::any_of(pending_.begin(), pending_.end(), [](std::uint8_t b) { return b != 0; }))
          return damaged("bytes after the gzip stream's end");
        pending_ = {};
        continue;
      }
      if (inflateReset(&z) != Z_OK) return make_error(Errc::kInternal, "restart zlib");
      between_frames_ = false;
    }
    z.next_in = pending_.data();
    z.avail_in = static_cast<uInt>(pending_.size());
    const int rc = inflate(&z, Z_NO_FLUSH);
    pending_ = pending_.last(z.avail_in);
    if (rc == Z_STREAM_END) {
      between_frames_ = true;
    } else if (rc != Z_OK && rc != Z_BUF_ERROR) {
      return damaged(z.msg != nullptr ? z.msg : "damaged gzip data");
    }
  }
  return std::size_t{room - z.avail_out};
}

Result<std::size_t> Decompressor::read_zstd(MutableBytes out) {
  ZSTD_outBuffer output{out.data(), out.size(), 0};
  while (output.pos == 0) {
    MSB_TRY(fill());
    if (pending_.empty() && between_frames_) return std::size_t{0};
    ZSTD_inBuffer input{pending_.data(), pending_.size(), 0};
    const bool no_more = pending_.empty();
    const std::size_t rc = ZSTD_decompressStream(state_->zstd, &output, &input);
    if (ZSTD_isError(rc) != 0) return damaged(ZSTD_getErrorName(rc));
    pending_ = pending_.subspan(input.pos);
    between_frames_ = rc == 0;
    if (no_more && output.pos == 0 && !between_frames_) return damaged("the zstd stream ends early");
  }
  return output.pos;
}

}  // namespace msb::oci
