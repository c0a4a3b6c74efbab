// SPDX-License-Identifier: Apache-2.0
#include "oci/tar_reader.h"

#include <algorithm>
#include <cstring>

#include "oci/tar_extensions.h"
#include "oci/tar_numbers.h"

namespace msb::oci {
namespace {

// Field places in a header block (POSIX ustar; the GNU ones lie where ustar has its prefix).
struct Field {
  std::size_t offset;
  std::size_t size;
};
constexpr Field kName{0, 100}, kMode{100, 8}, kUid{108, 8}, kGid{116, 8}, kSize{124, 12}, kMtime{136, 12};
constexpr Field kChecksum{148, 8}, kLink{157, 100}, kMagic{257, 8}, kMajor{329, 8}, kMinor{337, 8},
    kPrefix{345, 155};
constexpr Field kStarPrefix{345, 131};
constexpr std::size_t kType = 156, kStarTrailer = 508;
constexpr std::size_t kGnuMap = 386, kGnuMapEntries = 4, kGnuExtended = 482;
constexpr Field kGnuRealSize{483, 12};
constexpr std::size_t kGnuExtensionEntries = 21, kGnuExtensionExtended = 504;
constexpr std::size_t kGnuMapEntrySize = 24, kGnuMapNumber = 12;
constexpr std::uint32_t kModeBits = 07777;
constexpr std::uint64_t kMaxId = 0xfffffffe;  // the last value means "no id" to the kernel
constexpr std::size_t kMaxSparseRanges = 1U << 20;
constexpr int kMaxExtensionHeaders = 32;  // before one entry

ByteView field(ByteView block, Field f) { return block.subspan(f.offset, f.size); }

// Bytes up to the first NUL.
std::string text_field(ByteView block, Field f) {
  const std::string_view all = as_text(field(block, f));
  return std::string(all.substr(0, all.find('\0')));
}

bool is_zero(ByteView block) {
  return std::all_of(block.begin(), block.end(), [](std::uint8_t b) { return b == 0; });
}

// The sum over the block with the checksum field read as blanks; old writers summed signed bytes.
bool checksum_fits(ByteView block) {
  const auto stored = parse_tar_number(field(block, kChecksum));
  if (!stored) return false;
  std::int64_t as_unsigned = 0;
  std::int64_t as_signed = 0;
  for (std::size_t i = 0; i < block.size(); ++i) {
    const bool inside = i >= kChecksum.offset && i - kChecksum.offset < kChecksum.size;
    const std::uint8_t byte = inside ? std::uint8_t{' '} : block[i];
    as_unsigned += byte;
    as_signed += static_cast<std::int8_t>(byte);
  }
  return *stored == as_unsigned || *stored == as_signed;
}

// Types that carry no data, whatever their size field says (some writers put a directory's or a link target's
// size there). Everything that skips or reads data asks here and nowhere else.
bool has_data(char type) {
  switch (type) {
    case '1':
    case '2':
    case '3':
    case '4':
    case '5':
    case '6':
      return false;
    default:
      return true;
  }
}

std::uint64_t padding_of(std::uint64_t size) { return (512 - size % 512) % 512; }

}  // namespace

Error TarReader::bad(const char* what) const {
  return make_error(Errc::kProtocol, "tar entry at byte %llu: %s",
                    static_cast<unsigned long long>(entry_offset_), what);
}

Status TarReader::refill() {
  if (piece_.empty()) {
    MSB_ASSIGN(piece_, source_.read());
    if (piece_.size() > limits_.max_layer_bytes || position_ > limits_.max_layer_bytes - piece_.size()) {
      return make_error(Errc::kLimit, "the tar stream is longer than %llu bytes",
                        static_cast<unsigned long long>(limits_.max_layer_bytes));
    }
  }
  return {};
}

Result<bool> TarReader::read_block(Block& block) {
  std::size_t have = 0;
  while (have < kBlock) {
    MSB_TRY(refill());
    if (piece_.empty()) {
      if (have == 0) return false;
      return bad("the stream ends inside a header");
    }
    const std::size_t take = std::min(kBlock - have, piece_.size());
    std::memcpy(block.data() + have, piece_.data(), take);
    piece_ = piece_.subspan(take);
    position_ += take;
    have += take;
  }
  if (observer_ != nullptr) MSB_TRY(observer_->on_raw(block));
  return true;
}

Status TarReader::skip(std::uint64_t bytes) {
  while (bytes > 0) {
    MSB_TRY(refill());
    if (piece_.empty()) return bad("the stream ends inside an entry");
    const auto take = static_cast<std::size_t>(std::min<std::uint64_t>(bytes, piece_.size()));
    if (observer_ != nullptr) MSB_TRY(observer_->on_raw(piece_.first(take)));
    piece_ = piece_.subspan(take);
    position_ += take;
    bytes -= take;
  }
  return {};
}

Result<std::string> TarReader::read_extension(std::uint64_t size) {
  if (size > kMaxTarExtension)
    return make_error(Errc::kLimit, "tar entry at byte %llu: an extension header of %llu bytes (at most %zu)",
                      static_cast<unsigned long long>(entry_offset_), static_cast<unsigned long long>(size),
                      kMaxTarExtension);
  std::string text;
  text.reserve(static_cast<std::size_t>(size));
  while (text.size() < size) {
    MSB_TRY(refill());
    if (piece_.empty()) return bad("the stream ends inside an extension header");
    const auto take = std::min<std::size_t>(static_cast<std::size_t>(size) - text.size(), piece_.size());
    text.append(as_text(piece_.first(take)));
    if (observer_ != nullptr) MSB_TRY(observer_->on_raw(piece_.first(take)));
    piece_ = piece_.subspan(take);
    position_ += take;
  }
  MSB_TRY(skip(padding_of(size)));
  return text;
}

Result<ByteView> TarReader::read_data() {
  if (data_left_ == 0) return ByteView{};
  MSB_TRY(refill());
  if (piece_.empty()) return bad("the stream ends inside a file");
  const auto take = static_cast<std::size_t>(std::min<std::uint64_t>(data_left_, piece_.size()));
  const ByteView out = piece_.first(take);
  piece_ = piece_.subspan(take);
  position_ += take;
  data_left_ -= take;
  return out;
}

Result<std::optional<TarEntry>> TarReader::next() {
  if (ended_) return std::optional<TarEntry>{};
  MSB_TRY(skip(std::exchange(data_left_, 0)));
  MSB_TRY(skip(std::exchange(padding_left_, 0)));
  entry_offset_ = position_;
  PaxExtensions extensions;
  for (int headers = 0; headers < kMaxExtensionHeaders; ++headers) {
    Block block;
    MSB_ASSIGN(const bool more, read_block(block));
    if (!more || is_zero(block)) {
      if (headers != 0) return bad("an extension header without the entry it extends");
      ended_ = true;
      if (!more) return std::optional<TarEntry>{};
      // The end mark is two zero blocks; a lone one at the very end of the stream is seen in the wild.
      MSB_ASSIGN(const bool second, read_block(block));
      if (second && !is_zero(block)) return bad("one zero block between entries");
      return std::optional<TarEntry>{};
    }
    if (!checksum_fits(block))
      return bad("the header's checksum is wrong: not a tar stream, or a damaged one");
    const auto size = parse_tar_number(field(block, kSize));
    if (!size || *size < 0) return bad("the size field is not a number");
    const char type = static_cast<char>(block[kType]);
    const auto stored = static_cast<std::uint64_t>(*size);
    switch (type) {
      case 'x': {
        MSB_ASSIGN(const std::string records, read_extension(stored));
        if (const Status status = extensions.parse(records); !status.ok())
          return bad(status.error().text.c_str());
        continue;
      }
      case 'g': {
        // Applies to all that follows. Git writes a comment so; anything that would change entries is refused
        // rather than read in one of the several ways known programs do.
        MSB_ASSIGN(const std::string records, read_extension(stored));
        PaxExtensions global;
        if (const Status status = global.parse(records); !status.ok())
          return bad(status.error().text.c_str());
        if (global.says_anything()) return bad("a global PAX header changes names, sizes, owners or times");
        headers = -1;
        entry_offset_ = position_;
        continue;
      }
      case 'L':
      case 'K': {
        MSB_ASSIGN(std::string text, read_extension(stored));
        if (const std::size_t end = text.find('\0'); end != std::string::npos) text.resize(end);
        (type == 'L' ? extensions.gnu_path : extensions.gnu_link) = std::move(text);
        continue;
      }
      case 'V':  // volume label: a name, no file
        if (stored != 0) return bad("a volume label with data");
        headers = -1;
        entry_offset_ = position_;
        continue;
      default:
        break;
    }
    MSB_ASSIGN(TarEntry entry, make_entry(block, extensions));
    return std::optional<TarEntry>(std::move(entry));
  }
  return bad("too many extension headers before one entry");
}

Result<TarEntry> TarReader::make_entry(const Block& header, PaxExtensions& extensions) {
  TarEntry entry;
  const ByteView block = header;
  const std::string_view magic = as_text(field(block, kMagic));
  const bool posix = magic.starts_with(std::string_view("ustar\0", 6));
  const bool gnu = magic == std::string_view("ustar  \0", 8);
  const char type = static_cast<char>(header[kType]);

  // Name: PAX before GNU before the header itself; the prefix field exists in ustar only (star's is shorter).
  entry.path = text_field(block, kName);
  if (posix) {
    const bool star = as_text(block.subspan(kStarTrailer, 4)) == std::string_view("tar\0", 4);
    const std::string prefix = text_field(block, star ? kStarPrefix : kPrefix);
    if (!prefix.empty()) entry.path = prefix + "/" + entry.path;
  }
  entry.link = text_field(block, kLink);
  if (extensions.gnu_path) entry.path = std::move(*extensions.gnu_path);
  if (extensions.gnu_link) entry.link = std::move(*extensions.gnu_link);
  if (extensions.path) entry.path = std::move(*extensions.path);
  if (extensions.link) entry.link = std::move(*extensions.link);
  if (extensions.sparse_name) entry.path = std::move(*extensions.sparse_name);
  entry.xattrs = std::move(extensions.xattrs);

  const auto mode = parse_tar_number(field(block, kMode));
  if (!mode) return bad("the mode field is not a number");
  entry.mode = static_cast<std::uint32_t>(*mode) & kModeBits;
  const auto number = [&](Field f, const std::optional<std::uint64_t>& pax,
                          std::uint64_t max) -> std::optional<std::uint64_t> {
    std::uint64_t value = 0;
    if (pax) {
      value = *pax;
    } else {
      const auto parsed = parse_tar_number(field(block, f));
      if (!parsed || *parsed < 0) return std::nullopt;
      value = static_cast<std::uint64_t>(*parsed);
    }
    return value <= max ? std::optional<std::uint64_t>(value) : std::nullopt;
  };
  const auto uid = number(kUid, extensions.uid, kMaxId);
  const auto gid = number(kGid, extensions.gid, kMaxId);
  if (!uid || !gid) return bad("the owner is not a number below 4294967295");
  entry.uid = static_cast<std::uint32_t>(*uid);
  entry.gid = static_cast<std::uint32_t>(*gid);
  if (extensions.mtime) {
    entry.mtime_s = extensions.mtime->seconds;
    entry.mtime_ns = extensions.mtime->nanoseconds;
  } else {
    const auto mtime = parse_tar_number(field(block, kMtime));
    if (!mtime) return bad("the time field is not a number");
    entry.mtime_s = *mtime;
  }
  const auto size = number(kSize, extensions.size, INT64_MAX);
  if (!size) return bad("the size is not a number");

  using Kind = TarEntry::Kind;
  switch (type) {
    case '0':
    case '\0':
    case '7':
      // V7 had no type for directories: a trailing slash told them.
      entry.kind = type != '7' && !extensions.is_sparse() && entry.path.ends_with('/') ? Kind::kDirectory
                                                                                       : Kind::kFile;
      break;
    case 'S':
      entry.kind = Kind::kFile;
      break;
    case '1':
      entry.kind = Kind::kHardLink;
      break;
    case '2':
      entry.kind = Kind::kSymlink;
      break;
    case '3':
      entry.kind = Kind::kCharDevice;
      break;
    case '4':
      entry.kind = Kind::kBlockDevice;
      break;
    case '5':
      entry.kind = Kind::kDirectory;
      break;
    case '6':
      entry.kind = Kind::kFifo;
      break;
    case 'D':
      entry.kind = Kind::kDirectory;
      break;  // GNU dump directory: a directory with a listing as data
    default:
      return bad("an entry type that tar readers do not agree on");
  }
  if (entry.kind == Kind::kCharDevice || entry.kind == Kind::kBlockDevice) {
    // What the kernel can hold: 12 bits of major, 20 of minor.
    const auto major = number(kMajor, extensions.dev_major, 0xfff);
    const auto minor = number(kMinor, extensions.dev_minor, 0xfffff);
    if (!major || !minor) return bad("device numbers out of range");
    entry.major = static_cast<std::uint32_t>(*major);
    entry.minor = static_cast<std::uint32_t>(*minor);
  }

  data_left_ = has_data(type) ? *size : 0;
  padding_left_ = padding_of(data_left_);
  if (entry.kind != Kind::kFile) {
    if (extensions.is_sparse()) return bad("a sparse map on what is not a file");
    return entry;
  }
  entry.size = *size;
  if (type == 'S') {
    if (!gnu || extensions.is_sparse()) return bad("two kinds of sparse map in one entry");
    MSB_TRY(read_old_gnu_map(header, entry));
  } else if (extensions.is_sparse()) {
    entry.sparse = true;
    if (!extensions.sparse_size) return bad("a sparse file without its size");
    entry.size = *extensions.sparse_size;
    if (extensions.sparse_map_in_data) {
      MSB_TRY(read_pax_map(entry));
    } else {
      entry.ranges = std::move(extensions.sparse_ranges);
      MSB_TRY(check_ranges(entry));
    }
  }
  if (entry.size > limits_.max_file_bytes) {
    return make_error(Errc::kLimit, "tar entry at byte %llu: a file of %llu bytes (at most %llu)",
                      static_cast<unsigned long long>(entry_offset_),
                      static_cast<unsigned long long>(entry.size),
                      static_cast<unsigned long long>(limits_.max_file_bytes));
  }
  return entry;
}

Status TarReader::read_old_gnu_map(const Block& header, TarEntry& entry) {
  const auto real_size = parse_tar_number(field(header, kGnuRealSize));
  if (!real_size || *real_size < 0) return bad("a sparse file without its size");
  entry.sparse = true;
  entry.size = static_cast<std::uint64_t>(*real_size);
  const auto take = [&](ByteView block, std::size_t offset, std::size_t count) -> Status {
    for (std::size_t i = 0; i < count; ++i) {
      const ByteView raw = block.subspan(offset + i * kGnuMapEntrySize, kGnuMapEntrySize);
      if (raw[0] == 0 && raw[kGnuMapNumber] == 0) return {};  // unused slots end the map
      const auto start = parse_tar_number(raw.first(kGnuMapNumber));
      const auto length = parse_tar_number(raw.subspan(kGnuMapNumber));
      if (!start || !length || *start < 0 || *length < 0)
        return bad("a sparse map with what is not a number");
      if (entry.ranges.size() >= kMaxSparseRanges) return bad("a sparse map with too many ranges");
      entry.ranges.push_back({static_cast<std::uint64_t>(*start), static_cast<std::uint64_t>(*length)});
    }
    return {};
  };
  MSB_TRY(take(header, kGnuMap, kGnuMapEntries));
  bool extended = header[kGnuExtended] != 0;
  while (extended) {
    if (entry.ranges.size() >= kMaxSparseRanges) return bad("a sparse map with too many ranges");
    Block block;
    MSB_ASSIGN(const bool more, read_block(block));
    if (!more) return bad("the stream ends inside a sparse map");
    const std::size_t before = entry.ranges.size();
    MSB_TRY(take(block, 0, kGnuExtensionEntries));
    extended = block[kGnuExtensionExtended] != 0;
    if (extended && entry.ranges.size() == before) return bad("an empty block inside a sparse map");
  }
  return check_ranges(entry);
}

// Sparse format 1.0: the map stands before the data: a count, then offset and length of each range, each
// number decimal and ended by a newline, padded to a block. It is part of the stored size.
Status TarReader::read_pax_map(TarEntry& entry) {
  std::string digits;
  std::uint64_t count = 0;
  std::uint64_t numbers = 0;
  std::uint64_t start = 0;
  bool have_count = false;
  while (!have_count || numbers < 2 * count) {
    if (data_left_ < kBlock) return bad("a sparse map longer than its file");
    Block block;
    MSB_ASSIGN(const bool more, read_block(block));
    if (!more) return bad("the stream ends inside a sparse map");
    data_left_ -= kBlock;
    for (std::size_t i = 0; i < kBlock && (!have_count || numbers < 2 * count); ++i) {
      if (block[i] != '\n') {
        if (digits.size() >= 20) return bad("a sparse map with what is not a number");
        digits.push_back(static_cast<char>(block[i]));
        continue;
      }
      const auto value = parse_decimal(digits);
      digits.clear();
      if (!value) return bad("a sparse map with what is not a number");
      if (!have_count) {
        have_count = true;
        count = *value;
        if (count > kMaxSparseRanges) return bad("a sparse map with too many ranges");
      } else if (numbers++ % 2 == 0) {
        start = *value;
      } else {
        entry.ranges.push_back({start, *value});
      }
    }
  }
  return check_ranges(entry);
}

Status TarReader::check_ranges(TarEntry& entry) const {
  std::uint64_t end = 0;
  std::uint64_t stored = 0;
  for (const SparseRange& range : entry.ranges) {
    if (range.offset < end) return bad("a sparse map whose ranges overlap or go backwards");
    if (range.offset > entry.size || range.length > entry.size - range.offset)
      return bad("a sparse map that reaches past the file's end");
    end = range.offset + range.length;
    stored += range.length;  // cannot overflow: disjoint parts of entry.size
  }
  if (stored != data_left_) return bad("a sparse map that does not account for the stored bytes");
  std::erase_if(entry.ranges, [](const SparseRange& range) { return range.length == 0; });
  return {};
}

Status TarReader::drain() {
  for (;;) {
    MSB_TRY(refill());
    if (piece_.empty()) return {};
    MSB_TRY(skip(piece_.size()));
  }
}

}  // namespace msb::oci
