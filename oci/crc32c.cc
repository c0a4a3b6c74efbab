// SPDX-License-Identifier: Apache-2.0
#include "oci/crc32c.h"

#include <array>
#include <cstring>

namespace msb::oci {
namespace {

constexpr std::uint32_t kPolynomial = 0x82f63b78;
constexpr std::size_t kSlices = 8;

// Table k gives the effect of a byte that k more bytes follow: eight bytes are taken at a time.
constexpr auto kTables = [] {
  std::array<std::array<std::uint32_t, 256>, kSlices> tables{};
  for (std::uint32_t byte = 0; byte < 256; ++byte) {
    std::uint32_t crc = byte;
    for (int bit = 0; bit < 8; ++bit) crc = (crc & 1) != 0 ? crc >> 1 ^ kPolynomial : crc >> 1;
    tables[0][byte] = crc;
  }
  for (std::size_t k = 1; k < kSlices; ++k) {
    for (std::size_t byte = 0; byte < 256; ++byte) {
      const std::uint32_t before = tables[k - 1][byte];
      tables[k][byte] = before >> 8 ^ tables[0][before & 0xff];
    }
  }
  return tables;
}();

}  // namespace

std::uint32_t crc32c(std::uint32_t seed, ByteView data) {
  std::uint32_t crc = seed;
  while (data.size() >= kSlices) {
    std::uint64_t word = 0;
    std::memcpy(&word, data.data(), sizeof word);
    word ^= crc;
    crc = 0;
    for (std::size_t k = 0; k < kSlices; ++k) crc ^= kTables[kSlices - 1 - k][(word >> (8 * k)) & 0xff];
    data = data.subspan(kSlices);
  }
  for (const std::uint8_t byte : data) crc = crc >> 8 ^ kTables[0][(crc ^ byte) & 0xff];
  return crc;
}

}  // namespace msb::oci
