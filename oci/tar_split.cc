// SPDX-License-Identifier: Apache-2.0
#include "oci/tar_split.h"

#include <zstd.h>

#include <algorithm>
#include <cstring>

#include "base/file.h"
#include "base/wire.h"
#include "oci/decompress.h"

namespace msb::oci {
namespace {

constexpr std::size_t kLiteralBuffer = 64 * 1024;
constexpr std::size_t kOutputBuffer = 64 * 1024;
constexpr std::size_t kReadBuffer = 256 * 1024;
constexpr int kLevel = 1;  // headers are mostly zeros: speed matters, ratio comes by itself

struct LiteralRecord {
  std::uint8_t tag = 'L';
  Le32 length;
};
struct DataRecord {
  std::uint8_t tag = 'D';
  Le64 offset;
  Le64 length;
};
static_assert(sizeof(LiteralRecord) == 5 && sizeof(DataRecord) == 17);

template <typename T>
ByteView bytes_of(const T& value) {
  return {reinterpret_cast<const std::uint8_t*>(&value), sizeof value};
}

}  // namespace

TarSplitWriter::TarSplitWriter(int fd) : fd_(fd), context_(ZSTD_createCCtx()), output_(kOutputBuffer) {
  MSB_CHECK(context_ != nullptr);
  MSB_CHECK(ZSTD_isError(ZSTD_CCtx_setParameter(context_, ZSTD_c_compressionLevel, kLevel)) == 0);
}
TarSplitWriter::~TarSplitWriter() { ZSTD_freeCCtx(context_); }

Status TarSplitWriter::literal(ByteView bytes) {
  MSB_TRY(end_data());
  while (!bytes.empty()) {
    const std::size_t take = std::min(bytes.size(), kLiteralBuffer - literal_.size());
    literal_.insert(literal_.end(), bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(take));
    bytes = bytes.subspan(take);
    if (literal_.size() == kLiteralBuffer) MSB_TRY(end_literal());
  }
  return {};
}

Status TarSplitWriter::data(std::uint64_t blob_offset, std::uint64_t length) {
  if (length == 0) return {};
  if (data_length_ != 0 && data_offset_ + data_length_ == blob_offset) {
    data_length_ += length;
    return {};
  }
  MSB_TRY(end_data());
  MSB_TRY(end_literal());
  data_offset_ = blob_offset;
  data_length_ = length;
  return {};
}

Status TarSplitWriter::end_literal() {
  if (literal_.empty()) return {};
  LiteralRecord record;
  record.length = static_cast<std::uint32_t>(literal_.size());
  MSB_TRY(compress(bytes_of(record), false));
  MSB_TRY(compress(literal_, false));
  literal_.clear();
  return {};
}

Status TarSplitWriter::end_data() {
  if (data_length_ == 0) return {};
  DataRecord record;
  record.offset = data_offset_;
  record.length = data_length_;
  data_length_ = 0;
  return compress(bytes_of(record), false);
}

Status TarSplitWriter::compress(ByteView bytes, bool end) {
  ZSTD_inBuffer input{bytes.data(), bytes.size(), 0};
  for (;;) {
    ZSTD_outBuffer output{output_.data(), output_.size(), 0};
    const std::size_t left =
        ZSTD_compressStream2(context_, &output, &input, end ? ZSTD_e_end : ZSTD_e_continue);
    if (ZSTD_isError(left) != 0) return make_error(Errc::kInternal, "compress: %s", ZSTD_getErrorName(left));
    MSB_TRY(write_all(fd_, as_text(ByteView(output_).first(output.pos))));
    if (end ? left == 0 : input.pos == input.size) return {};
  }
}

Status TarSplitWriter::finish() {
  MSB_TRY(end_data());
  MSB_TRY(end_literal());
  return compress({}, true);
}

SplitRecords::SplitRecords(ByteStream& split) : stream_(std::make_unique<Decompressor>(split)) {}
SplitRecords::~SplitRecords() = default;

Status SplitRecords::take_literal(MutableBytes out) {
  while (!out.empty()) {
    MSB_ASSIGN(const std::size_t n, stream_->read(out));
    if (n == 0) return make_error(Errc::kCorrupt, "the record of the layer's tar stream ends early");
    out = out.subspan(n);
  }
  return {};
}

Result<std::optional<SplitRecords::Record>> SplitRecords::next() {
  std::uint8_t tag = 0;
  MSB_ASSIGN(const std::size_t n, stream_->read(MutableBytes(&tag, 1)));
  if (n == 0) return std::optional<Record>{};
  Record record;
  if (tag == 'L') {
    Le32 length;
    MSB_TRY(take_literal(MutableBytes(reinterpret_cast<std::uint8_t*>(&length), sizeof length)));
    record.literal = true;
    record.length = length.get();
  } else if (tag == 'D') {
    std::array<Le64, 2> place;
    MSB_TRY(take_literal(MutableBytes(reinterpret_cast<std::uint8_t*>(place.data()), sizeof place)));
    record.offset = place[0].get();
    record.length = place[1].get();
  } else {
    return make_error(Errc::kCorrupt, "the record of the layer's tar stream is damaged");
  }
  return std::optional<Record>(record);
}

Result<std::uint64_t> tar_split_length(ByteStream& split, std::uint64_t max_bytes) {
  SplitRecords records(split);
  Bytes scratch(kReadBuffer);
  std::uint64_t total = 0;
  for (;;) {
    MSB_ASSIGN(const auto record, records.next());
    if (!record) return total;
    if (record->length > max_bytes - total)
      return make_error(Errc::kCorrupt,
                        "the record of the layer's tar stream is longer than any layer may be");
    total += record->length;
    for (std::uint64_t left = record->literal ? record->length : 0; left > 0;) {
      const auto take = static_cast<std::size_t>(std::min<std::uint64_t>(left, scratch.size()));
      MSB_TRY(records.take_literal(MutableBytes(scratch).first(take)));
      left -= take;
    }
  }
}

TarSplitReader::TarSplitReader(ByteStream& split, int blob_fd, std::uint64_t max_bytes)
    : records_(split), blob_fd_(blob_fd), left_total_(max_bytes), buffer_(kReadBuffer) {}

Result<ByteView> TarSplitReader::read() {
  while (left_ == 0) {
    MSB_ASSIGN(const auto record, records_.next());
    if (!record) return ByteView{};
    if (record->length > left_total_)
      return make_error(Errc::kCorrupt, "the record of the layer's tar stream is longer than the stream was");
    left_total_ -= record->length;
    left_ = record->length;
    literal_ = record->literal;
    blob_offset_ = record->offset;
  }
  const MutableBytes out =
      MutableBytes(buffer_).first(static_cast<std::size_t>(std::min<std::uint64_t>(left_, buffer_.size())));
  if (literal_) {
    MSB_TRY(records_.take_literal(out));
  } else {
    MSB_TRY(pread_exact(blob_fd_, out, blob_offset_));
    blob_offset_ += out.size();
  }
  left_ -= out.size();
  return ByteView(out);
}

}  // namespace msb::oci
