// SPDX-License-Identifier: Apache-2.0
// TarReader: a tar stream taken apart entry by entry: POSIX ustar, PAX, GNU (long names, base-256 numbers,
// sparse files of all four kinds), star and V7. The stream is hostile: what is damaged or ambiguous is an
// error, never a guess, and there is exactly one function that decides how many bytes an entry occupies.
//
// Sources: POSIX.1-2017 pax "ustar Interchange Format" and "pax Header"; GNU tar manual, "Basic Tar Format"
// and "Storing Sparse Files". Byte strings stay bytes: names need not be UTF-8.
//
// Every byte of the stream is shown once to the RawObserver unless read_data() returned it, in stream order,
// so that an observer can keep what is needed to write the very same stream again.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "oci/byte_source.h"
#include "oci/limits.h"

namespace msb::oci {

struct Xattr {
  std::string name;  // with its namespace: "security.capability"
  std::string value;
  friend bool operator==(const Xattr&, const Xattr&) = default;
};

struct SparseRange {
  std::uint64_t offset = 0;
  std::uint64_t length = 0;
};

struct TarEntry {
  enum class Kind : std::uint8_t { kFile, kHardLink, kSymlink, kCharDevice, kBlockDevice, kDirectory, kFifo };
  Kind kind = Kind::kFile;
  std::string path;        // as written, not yet judged (layer_tree.h)
  std::string link;        // target of kHardLink and kSymlink
  std::uint64_t size = 0;  // apparent size of a file; 0 for all else
  std::int64_t mtime_s = 0;
  std::uint32_t mtime_ns = 0;
  std::uint32_t mode = 0;  // permission bits, setuid, setgid, sticky
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  std::uint32_t major = 0;
  std::uint32_t minor = 0;
  std::vector<Xattr> xattrs;
  bool sparse = false;
  std::vector<SparseRange> ranges;  // if sparse: where the stored data lies, ascending, disjoint, within size
};

struct PaxExtensions;  // tar_extensions.h

class RawObserver {
 public:
  virtual ~RawObserver() = default;
  // Bytes of the stream other than those given out by read_data().
  [[nodiscard]] virtual Status on_raw(ByteView bytes) = 0;
};

class TarReader {
 public:
  // Both are borrowed; `observer` may be null.
  TarReader(ByteSource& source, const Limits& limits, RawObserver* observer = nullptr)
      : source_(source), limits_(limits), observer_(observer) {}

  // The next entry, or nullopt at the end of the archive. Data of the previous entry not read is passed over.
  // Errors: kProtocol for what is not tar or contradicts itself, kLimit, kUnsupported; those of the source.
  [[nodiscard]] Result<std::optional<TarEntry>> next();
  // The next piece of the current file's stored data, without holes; empty when there is no more.
  [[nodiscard]] Result<ByteView> read_data();
  // Reads the stream to its end after next() returned nullopt: padding, or whatever follows the end mark.
  [[nodiscard]] Status drain();
  // Offset in the stream of the current entry's first header, for error texts.
  [[nodiscard]] std::uint64_t entry_offset() const { return entry_offset_; }

 private:
  static constexpr std::size_t kBlock = 512;
  using Block = std::array<std::uint8_t, kBlock>;

  [[nodiscard]] Status refill();
  [[nodiscard]] Result<bool> read_block(Block& block);  // false at the end of the stream
  [[nodiscard]] Status skip(std::uint64_t bytes);
  [[nodiscard]] Result<std::string> read_extension(std::uint64_t size);
  [[nodiscard]] Result<TarEntry> make_entry(const Block& header, PaxExtensions& extensions);
  [[nodiscard]] Status read_old_gnu_map(const Block& header, TarEntry& entry);
  [[nodiscard]] Status read_pax_map(TarEntry& entry);
  [[nodiscard]] Status check_ranges(TarEntry& entry) const;
  [[nodiscard]] Error bad(const char* what) const;

  ByteSource& source_;
  Limits limits_;
  RawObserver* observer_;
  ByteView piece_;              // what the source gave and we have not consumed
  std::uint64_t position_ = 0;  // in the stream, of piece_'s first byte
  std::uint64_t entry_offset_ = 0;
  std::uint64_t data_left_ = 0;     // stored bytes of the current entry not yet given out
  std::uint64_t padding_left_ = 0;  // up to the block after them
  bool ended_ = false;
};

}  // namespace msb::oci
