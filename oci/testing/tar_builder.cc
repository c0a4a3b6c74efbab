// SPDX-License-Identifier: Apache-2.0
#include "oci/testing/tar_builder.h"

#include <cstdio>
#include <cstring>

namespace msb::oci::testing {
namespace {

constexpr std::size_t kBlock = 512;

void set_text(std::string& block, std::size_t offset, std::size_t size, const std::string& text) {
  block.replace(offset, std::min(size, text.size()), text, 0, std::min(size, text.size()));
}

// Octal where it fits, base-256 where not.
void set_number(std::string& block, std::size_t offset, std::size_t size, std::int64_t value) {
  const bool octal = value >= 0 && (size > 20 || (value >> (3 * (size - 1))) == 0);
  if (octal) {
    std::string digits(size - 1, '0');
    for (std::size_t i = digits.size(); i-- > 0; value >>= 3)
      digits[i] = static_cast<char>('0' + (value & 7));
    block.replace(offset, digits.size(), digits);
    return;
  }
  for (std::size_t i = size; i-- > 0; value >>= 8) block[offset + i] = static_cast<char>(value & 0xff);
  block[offset] = static_cast<char>(block[offset] | static_cast<char>(0x80));
}

}  // namespace

std::string pax_record(const std::string& key, const std::string& value) {
  const std::string body = " " + key + "=" + value + "\n";
  std::size_t length = body.size() + 1;
  while (std::to_string(length).size() + body.size() != length) ++length;
  return std::to_string(length) + body;
}

void TarBuilder::header(const Member& member, std::uint64_t size) {
  std::string block(kBlock, '\0');
  set_text(block, 0, 100, member.name);
  set_number(block, 100, 8, member.mode);
  set_number(block, 108, 8, static_cast<std::int64_t>(member.uid));
  set_number(block, 116, 8, static_cast<std::int64_t>(member.gid));
  set_number(block, 124, 12, static_cast<std::int64_t>(size));
  set_number(block, 136, 12, member.mtime);
  block[156] = member.type;
  set_text(block, 157, 100, member.link);
  const bool gnu = member.type == 'L' || member.type == 'K' || member.type == 'S';
  block.replace(257, 8, gnu ? std::string("ustar  \0", 8) : std::string("ustar\00000", 8));
  set_number(block, 329, 8, member.major);
  set_number(block, 337, 8, member.minor);
  block.replace(148, 8, 8, ' ');
  unsigned sum = 0;
  for (const char c : block) sum += static_cast<unsigned char>(c);
  char text[8];
  std::snprintf(text, sizeof text, "%06o", sum);
  block.replace(148, 7, text, 7);
  stream_ += block;
}

void TarBuilder::content(std::string_view data) {
  stream_ += data;
  stream_.append((kBlock - data.size() % kBlock) % kBlock, '\0');
}

TarBuilder& TarBuilder::add(const Member& member) {
  if (!member.pax.empty()) {
    std::string records;
    for (const auto& [key, value] : member.pax) records += pax_record(key, value);
    header({.name = "pax", .type = 'x'}, records.size());
    content(records);
  }
  header(member, member.size < 0 ? member.data.size() : static_cast<std::uint64_t>(member.size));
  content(member.data);
  return *this;
}

TarBuilder& TarBuilder::gnu_long(char type, const std::string& text) {
  const std::string ended = text + '\0';
  header({.name = "././@LongLink", .type = type}, ended.size());
  content(ended);
  return *this;
}

TarBuilder& TarBuilder::raw(std::string_view bytes) {
  stream_ += bytes;
  return *this;
}

}  // namespace msb::oci::testing
