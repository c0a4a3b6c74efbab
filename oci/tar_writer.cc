// SPDX-License-Identifier: Apache-2.0
#include "oci/tar_writer.h"

#include <array>

#include "base/file.h"

namespace msb::oci {
namespace {

constexpr std::size_t kBlock = 512;
constexpr std::size_t kMaxName = 100;
constexpr std::uint64_t kMaxOctalSize = (std::uint64_t{1} << 33) - 1;  // eleven digits

}  // namespace

// POSIX.1-2017 pax, "ustar Interchange Format"; larger sizes in GNU's base-256.
Status TarWriter::header(const std::string& name, std::uint64_t size) {
  MSB_CHECK(name.size() <= kMaxName);
  std::string block(kBlock, '\0');
  const auto octal = [&block](std::size_t offset, std::size_t digits, std::uint64_t value) {
    for (std::size_t i = digits; i-- > 0; value >>= 3)
      block[offset + i] = static_cast<char>('0' + (value & 7));
  };
  block.replace(0, name.size(), name);
  octal(100, 7, 0644);
  octal(108, 7, 0);
  octal(116, 7, 0);
  if (size <= kMaxOctalSize) {
    octal(124, 11, size);
  } else {
    for (std::size_t i = 0; i < 8; ++i) block[135 - i] = static_cast<char>(size >> (8 * i));
    block[124] = static_cast<char>(0x80);
  }
  octal(136, 11, 0);
  block[156] = '0';
  block.replace(257, 8, std::string_view("ustar\00000", 8));
  block.replace(148, 8, 8, ' ');
  std::uint64_t sum = 0;
  for (const char c : block) sum += static_cast<std::uint8_t>(c);
  octal(148, 6, sum);
  block[154] = '\0';
  return write_all(fd_, block);
}

Status TarWriter::pad(std::uint64_t size) {
  static constexpr std::array<char, kBlock> kZeros{};
  return write_all(fd_, std::string_view(kZeros.data(), (kBlock - size % kBlock) % kBlock));
}

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

Status TarWriter::finish() {
  const std::string end(2 * kBlock, '\0');
  return write_all(fd_, end);
}

}  // namespace msb::oci
