// SPDX-License-Identifier: Apache-2.0
#include "oci/tar_writer.h"

#include <algorithm>
#include <cstdio>

#include "base/file.h"
#include "base/log.h"

namespace msb::oci {
namespace {

constexpr std::size_t kBlock = 512;
constexpr std::size_t kMaxName = 100;
constexpr std::uint64_t kMaxSize = (std::uint64_t{1} << 33) - 1;  // eleven octal digits; times likewise
constexpr std::uint64_t kMaxId = (1U << 21) - 1;                  // seven

char type_of(TarEntry::Kind kind) {
  switch (kind) {
    case TarEntry::Kind::kFile:
      return '0';
    case TarEntry::Kind::kHardLink:
      return '1';
    case TarEntry::Kind::kSymlink:
      return '2';
    case TarEntry::Kind::kCharDevice:
      return '3';
    case TarEntry::Kind::kBlockDevice:
      return '4';
    case TarEntry::Kind::kDirectory:
      return '5';
    case TarEntry::Kind::kFifo:
      return '6';
  }
  return '0';
}

// POSIX.1-2017 pax, "ustar Interchange Format". What does not fit a field is 0 or cut there: a PAX record
// says it.
std::string ustar_header(char type, const std::string& name, std::uint64_t size, const TarEntry& entry) {
  std::string block(kBlock, '\0');
  const auto octal = [&block](std::size_t offset, std::size_t digits, std::uint64_t value) {
    for (std::size_t i = digits; i-- > 0; value >>= 3)
      block[offset + i] = static_cast<char>('0' + (value & 7));
  };
  const auto text = [&block](std::size_t offset, std::string_view value) {
    const std::string_view cut = value.substr(0, kMaxName);
    block.replace(offset, cut.size(), cut);
  };
  const auto mtime = static_cast<std::uint64_t>(std::max<std::int64_t>(entry.mtime_s, 0));
  text(0, name);
  octal(100, 7, entry.mode);
  octal(108, 7, entry.uid <= kMaxId ? entry.uid : 0);
  octal(116, 7, entry.gid <= kMaxId ? entry.gid : 0);
  octal(124, 11, size <= kMaxSize ? size : 0);
  octal(136, 11, mtime <= kMaxSize ? mtime : 0);
  block[156] = type;
  text(157, entry.link);
  block.replace(257, 8, std::string_view("ustar\00000", 8));
  if (type == '3' || type == '4') {
    octal(329, 7, entry.major);
    octal(337, 7, entry.minor);
  }
  block.replace(148, 8, 8, ' ');
  std::uint64_t sum = 0;
  for (const char c : block) sum += static_cast<std::uint8_t>(c);
  octal(148, 6, sum);
  block[154] = '\0';
  return block;
}

// "LENGTH KEY=VALUE\n", where the length counts its own digits.
void add_record(std::string& records, std::string_view key, std::string_view value) {
  const std::size_t rest = key.size() + value.size() + 3;
  std::size_t digits = 1;
  while (std::to_string(rest + digits).size() != digits) ++digits;
  records.append(std::to_string(rest + digits))
      .append(" ")
      .append(key)
      .append("=")
      .append(value)
      .append("\n");
}

// The entry's nanoseconds count up from its second also before 1970; PAX writes a sign and a fraction.
std::string pax_time(std::int64_t seconds, std::uint32_t nanoseconds) {
  const bool negative = seconds < 0;
  auto whole = static_cast<std::uint64_t>(seconds);
  if (negative) {
    whole = 0 - whole;
    if (nanoseconds != 0) {
      --whole;
      nanoseconds = 1'000'000'000 - nanoseconds;
    }
  }
  char fraction[16];
  std::snprintf(&fraction[0], sizeof fraction, ".%09u", nanoseconds);
  return (negative ? "-" : "") + std::to_string(whole) + &fraction[0];
}

// What precedes a sparse file's data: the number of ranges, then where each begins and how long it is. A file
// that ends in a hole has an empty range there: GNU tar takes its length from that.
std::string sparse_map(const TarEntry& entry) {
  const std::uint64_t end =
      entry.ranges.empty() ? 0 : entry.ranges.back().offset + entry.ranges.back().length;
  const bool hole_at_end = end != entry.size;
  std::string map = std::to_string(entry.ranges.size() + (hole_at_end ? 1 : 0)) + "\n";
  for (const SparseRange& range : entry.ranges)
    map += std::to_string(range.offset) + "\n" + std::to_string(range.length) + "\n";
  if (hole_at_end) map += std::to_string(entry.size) + "\n0\n";
  map.append(tar_padding(map.size()), '\0');
  return map;
}

}  // namespace

Result<std::string> tar_headers(const TarEntry& entry) {
  std::string records;
  std::string name = entry.path;
  std::string map;
  std::uint64_t stored = entry.size;
  if (entry.sparse) {
    map = sparse_map(entry);
    stored = map.size();
    for (const SparseRange& range : entry.ranges) stored += range.length;
    add_record(records, "GNU.sparse.major", "1");
    add_record(records, "GNU.sparse.minor", "0");
    add_record(records, "GNU.sparse.name", entry.path);
    add_record(records, "GNU.sparse.realsize", std::to_string(entry.size));
    name = "GNUSparseFile.0";
  } else if (name.size() > kMaxName) {
    add_record(records, "path", name);
  }
  if (entry.link.size() > kMaxName) add_record(records, "linkpath", entry.link);
  if (stored > kMaxSize) add_record(records, "size", std::to_string(stored));
  if (entry.uid > kMaxId) add_record(records, "uid", std::to_string(entry.uid));
  if (entry.gid > kMaxId) add_record(records, "gid", std::to_string(entry.gid));
  if (entry.mtime_ns != 0 || entry.mtime_s < 0 || static_cast<std::uint64_t>(entry.mtime_s) > kMaxSize)
    add_record(records, "mtime", pax_time(entry.mtime_s, entry.mtime_ns));
  for (const Xattr& xattr : entry.xattrs) {
    if (xattr.name.find('=') != std::string::npos)
      return make_error(Errc::kUnsupported, "\"%s\" has the attribute \"%s\", whose \"=\" no tar can hold",
                        quote_for_log(entry.path).c_str(), quote_for_log(xattr.name).c_str());
    add_record(records, "SCHILY.xattr." + xattr.name, xattr.value);
  }
  std::string out;
  if (!records.empty()) {
    TarEntry pax;
    pax.mode = 0644;
    out = ustar_header('x', "PaxHeader", records.size(), pax);
    out += records;
    out.append(tar_padding(records.size()), '\0');
  }
  return out + ustar_header(type_of(entry.kind), name, stored, entry) + map;
}

Status TarWriter::header(const std::string& name, std::uint64_t size) {
  TarEntry entry;
  entry.path = name;
  entry.size = size;
  entry.mode = 0644;
  MSB_ASSIGN(const std::string headers, tar_headers(entry));
  return write_all(fd_, headers);
}

Status TarWriter::pad(std::uint64_t size) { return write_all(fd_, std::string(tar_padding(size), '\0')); }

Status TarWriter::add(const std::string& name, std::string_view content) {
  MSB_TRY(header(name, content.size()));
  MSB_TRY(write_all(fd_, content));
  return pad(content.size());
}

Status TarWriter::add(const std::string& name, std::uint64_t size, ByteSource& content) {
  MSB_TRY(header(name, size));
  std::uint64_t left = size;
  for (;;) {
    MSB_ASSIGN(const ByteView piece, content.read());
    if (piece.empty()) break;
    if (piece.size() > left)
      return make_error(Errc::kCorrupt, "%s is longer than it should be", name.c_str());
    MSB_TRY(write_all(fd_, as_text(piece)));
    left -= piece.size();
  }
  if (left != 0) return make_error(Errc::kCorrupt, "%s is shorter than it should be", name.c_str());
  return pad(size);
}

Status TarWriter::finish() { return write_all(fd_, std::string(kTarEnd, '\0')); }

}  // namespace msb::oci
