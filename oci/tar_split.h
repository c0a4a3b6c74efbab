// SPDX-License-Identifier: Apache-2.0
// A tar stream kept as what is not file data plus places of the file data in the layer's blob, so that `save`
// can write the very bytes whose digest the image names, at a small part of their size.
//
// Format: one zstd stream of records. "L" u32 length, bytes: literal bytes of the tar. "D" u64 offset, u64
// length: bytes of the blob. All little-endian.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>

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

// The records one after another. `split` (borrowed) yields them as they were written, compressed.
class SplitRecords {
 public:
  struct Record {
    bool literal = false;      // else bytes of the blob, from `offset` on
    std::uint64_t length = 0;  // unchecked: whatever the file says
    std::uint64_t offset = 0;
  };
  explicit SplitRecords(ByteStream& split);
  ~SplitRecords();
  // nullopt at the end. The bytes of a literal record must be taken before the next call.
  [[nodiscard]] Result<std::optional<Record>> next();
  [[nodiscard]] Status take_literal(MutableBytes out);

 private:
  std::unique_ptr<ByteStream> stream_;
};

// Length of the tar stream that `split` stands for, without reading a blob. kCorrupt above `max_bytes`.
[[nodiscard]] Result<std::uint64_t> tar_split_length(ByteStream& split, std::uint64_t max_bytes);

// The tar stream again. `split` yields the (compressed) records, `blob_fd` is the layer's blob; both
// borrowed.
class TarSplitReader final : public ByteSource {
 public:
  TarSplitReader(ByteStream& split, int blob_fd, std::uint64_t max_bytes);
  [[nodiscard]] Result<ByteView> read() override;

 private:
  SplitRecords records_;
  int blob_fd_;
  std::uint64_t left_total_;
  std::uint64_t left_ = 0;  // of the current record
  std::uint64_t blob_offset_ = 0;
  bool literal_ = false;
  Bytes buffer_;
};

}  // namespace msb::oci
