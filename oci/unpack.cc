// SPDX-License-Identifier: Apache-2.0
#include "oci/unpack.h"

#include <unistd.h>

#include <algorithm>
#include <optional>

#include "base/log.h"
#include "oci/blob_writer.h"
#include "oci/decompress.h"
#include "oci/erofs_writer.h"
#include "oci/hashing_pipe.h"
#include "oci/layer_tree.h"
#include "oci/tar_reader.h"
#include "oci/tar_split.h"

namespace msb::oci {
namespace {

// A sparse file has at most about this many chunks; larger files have larger chunks.
constexpr std::uint64_t kMaxChunks = 1U << 17;

class Unpacker final : public RawObserver {
 public:
  Unpacker(ByteSource& tar, const LayerFiles& files, const Limits& limits)
      : reader_(tar, limits, files.split >= 0 ? this : nullptr),
        tree_(limits, files.scratch),
        layer_(tree_),
        blob_(files.blob, limits.max_image_bytes / erofs::kBlockSize),
        blob_fd_(files.blob) {
    if (files.split >= 0) split_.emplace(files.split);
  }

  [[nodiscard]] Status on_raw(ByteView bytes) override { return split_->literal(bytes); }

  Result<LayerSummary> run() {
    LayerSummary summary;
    for (;;) {
      MSB_ASSIGN(const std::optional<TarEntry> entry, reader_.next());
      if (!entry) break;
      ++summary.entries;
      if (summary.entries > limits().max_entries)
        return make_error(Errc::kLimit, "more than %u entries", limits().max_entries);
      MSB_ASSIGN(const InodeId id, layer_.add(*entry));
      if (id == kNone) {
        MSB_TRY(pass_over());
        continue;
      }
      const Status stored = entry->sparse ? store_sparse(*entry, tree_.inode(id)) : store(tree_.inode(id));
      if (!stored.ok())
        return Error(stored.error()).with_context("entry \"" + quote_for_log(entry->path) + "\"");
    }
    MSB_TRY(reader_.drain());
    if (split_) MSB_TRY(split_->finish());
    MSB_ASSIGN(summary.blob_bytes, write_metadata());
    summary.dropped_xattrs = layer_.dropped_xattrs();
    return summary;
  }

 private:
  const Limits& limits() const { return tree_.limits(); }

  // Data that is not kept (of whiteouts, say) is still part of the stream.
  Status pass_over() {
    for (;;) {
      MSB_ASSIGN(const ByteView piece, reader_.read_data());
      if (piece.empty()) return {};
      if (split_) MSB_TRY(split_->literal(piece));
    }
  }

  Status append(ByteView piece) {
    if (split_) MSB_TRY(split_->data(blob_.position(), piece.size()));
    return blob_.append(piece);
  }

  Status store(Inode& inode) {
    if (inode.size == 0) return {};
    MSB_ASSIGN(inode.data, blob_.start_block());
    for (;;) {
      MSB_ASSIGN(const ByteView piece, reader_.read_data());
      if (piece.empty()) break;
      MSB_TRY(append(piece));
    }
    return blob_.align();
  }

  // The file cut into chunks of equal size; those that no stored range touches are holes.
  Status store_sparse(const TarEntry& entry, Inode& inode) {
    if (entry.size == 0) return {};
    ChunkMap map;
    while ((entry.size - 1) >> map.chunk_bits >= kMaxChunks) ++map.chunk_bits;
    const std::uint64_t chunk_size = std::uint64_t{1} << map.chunk_bits;
    map.blocks.assign(static_cast<std::size_t>(((entry.size - 1) >> map.chunk_bits) + 1), kNone);
    std::uint64_t written = 0;    // end of what has its place so far, in the file
    std::uint64_t chunk_end = 0;  // end of the chunk being written
    ByteView piece;
    for (const SparseRange& range : entry.ranges) {
      for (std::uint64_t at = range.offset, end = range.offset + range.length; at < end;) {
        if (at >= chunk_end) {
          MSB_TRY(blob_.append_zeros(chunk_end - written));
          MSB_TRY(blob_.align());
          MSB_ASSIGN(map.blocks[static_cast<std::size_t>(at >> map.chunk_bits)], blob_.start_block());
          written = at / chunk_size * chunk_size;
          chunk_end = std::min(written + chunk_size, entry.size);
        }
        MSB_TRY(blob_.append_zeros(at - written));
        if (piece.empty()) {
          MSB_ASSIGN(piece, reader_.read_data());
          if (piece.empty()) return make_error(Errc::kInternal, "the sparse map and the stored bytes differ");
        }
        const auto take =
            static_cast<std::size_t>(std::min<std::uint64_t>(piece.size(), std::min(end, chunk_end) - at));
        MSB_TRY(append(piece.first(take)));
        piece = piece.subspan(take);
        at += take;
        written = at;
      }
    }
    MSB_TRY(blob_.append_zeros(chunk_end - written));
    MSB_TRY(blob_.align());
    MSB_ASSIGN(inode.data, tree_.add_chunk_map(std::move(map)));
    inode.flags |= kChunked;
    return {};
  }

  Result<std::uint64_t> write_metadata() {
    MSB_TRY(layer_.encode_marks());
    erofs::Writer writer(tree_);
    MSB_TRY(writer.plan());
    MSB_TRY(blob_.flush());
    MSB_ASSIGN(const std::uint32_t meta_block, blob_.start_block());
    const std::uint64_t total = std::uint64_t{meta_block} + writer.metadata_blocks();
    if (total * erofs::kBlockSize > limits().max_image_bytes)
      return make_error(Errc::kLimit, "the layer takes more than %llu bytes",
                        static_cast<unsigned long long>(limits().max_image_bytes));
    constexpr std::uint32_t kOwnBase = 0;
    erofs::Writer::Disk disk;
    disk.meta_block = meta_block;
    disk.total_blocks = static_cast<std::uint32_t>(total);
    disk.layer_base = {&kOwnBase, 1};
    MSB_TRY(writer.write(blob_fd_, blob_.position(), disk));
    if (::ftruncate(blob_fd_, static_cast<off_t>(total * erofs::kBlockSize)) != 0)
      return sys_error("set the length of a layer's blob");
    return total * erofs::kBlockSize;
  }

  TarReader reader_;
  Tree tree_;
  LayerTree layer_;
  BlobWriter blob_;
  std::optional<TarSplitWriter> split_;
  int blob_fd_;
};

}  // namespace

Result<LayerSummary> unpack_layer(ByteStream& input, const LayerFiles& files, const Limits& limits) {
  Decompressor decompressor(input);
  HashingPipe pipe(decompressor);
  Unpacker unpacker(pipe, files, limits);
  MSB_ASSIGN(LayerSummary summary, unpacker.run());
  summary.diff_id_hex = pipe.sha256_hex();
  summary.tar_bytes = pipe.total_bytes();
  return summary;
}

}  // namespace msb::oci
