// SPDX-License-Identifier: Apache-2.0
// A tar stream kept as what is not file data plus places of the file data in the layer's blob, so that `save`
// can write the very bytes whose digest the image names, at a small part of their size.
//
// Format: one zstd stream of records. "L" u32 length, bytes: literal bytes of the tar. "D" u64 offset, u64
// length: bytes of the blob. All little-endian.
#pragma once

#include <cstdint>
#include <memory>

#include "base/bytes.h"
#include "base/result.h"
#include "oci/byte_stream.h"

struct ZSTD_CCtx_s;

namespace msb::oci {

class TarSplitWriter {
 public:
  // `fd` (borrowed) is an empty file.
  explicit TarSplitWriter(int fd);
  ~TarSplitWriter();
  TarSplitWriter(const TarSplitWriter&) = delete;
  TarSplitWriter& operator=(const TarSplitWriter&) = delete;
  [[nodiscard]] Status literal(ByteView bytes);
  [[nodiscard]] Status data(std::uint64_t blob_offset, std::uint64_t length);
  [[nodiscard]] Status finish();

 private:
  [[nodiscard]] Status end_literal();
  [[nodiscard]] Status end_data();
  [[nodiscard]] Status compress(ByteView bytes, bool end);
  int fd_;
  ZSTD_CCtx_s* context_;
  Bytes literal_;
  std::uint64_t data_offset_ = 0;
  std::uint64_t data_length_ = 0;
  Bytes output_;
};

// The tar stream again. `split` yields the (compressed) records, `blob_fd` is the layer's blob; both
// borrowed.
class TarSplitReader final : public ByteSource {
 public:
  TarSplitReader(ByteStream& split, int blob_fd, std::uint64_t max_bytes);
  ~TarSplitReader() override;
  [[nodiscard]] Result<ByteView> read() override;

 private:
  [[nodiscard]] Status take_exact(MutableBytes out);
  std::unique_ptr<ByteStream> records_;
  int blob_fd_;
  std::uint64_t left_total_;
  std::uint64_t blob_offset_ = 0;
  std::uint64_t data_left_ = 0;
  std::uint64_t literal_left_ = 0;
  Bytes buffer_;
};

}  // namespace msb::oci
