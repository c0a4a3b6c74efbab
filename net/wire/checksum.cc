// SPDX-License-Identifier: Apache-2.0
#include "net/wire/checksum.h"

#include <cstring>

namespace msb::net {
namespace {
std::uint64_t fold_to_16(std::uint64_t sum) {
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
  return sum;
}
}  // namespace

// 32-bit words into 64-bit lanes: four independent sums let the compiler use vector registers; 2^32 words of
// 2^32 cannot overflow a lane for any packet.
void ChecksumSum::add(ByteView bytes) {
  const std::uint8_t* data = bytes.data();
  std::size_t left = bytes.size();
  std::uint64_t lanes[4] = {0, 0, 0, 0};
  while (left >= 16) {
    std::uint32_t words[4];
    std::memcpy(words, data, sizeof words);
    for (int i = 0; i < 4; ++i) lanes[i] += words[i];
    data += 16;
    left -= 16;
  }
  std::uint64_t sum =
      fold_to_16(lanes[0]) + fold_to_16(lanes[1]) + fold_to_16(lanes[2]) + fold_to_16(lanes[3]);
  while (left >= 2) {
    std::uint16_t word = 0;
    std::memcpy(&word, data, sizeof word);
    sum += word;
    data += 2;
    left -= 2;
  }
  if (left == 1) sum += *data;  // the missing byte counts as zero; little-endian host: low half
  sum_ += fold_to_16(sum);
}

void ChecksumSum::add_at_odd_offset(ByteView bytes) {
  ChecksumSum shifted;
  shifted.add(bytes);
  sum_ += __builtin_bswap16(static_cast<std::uint16_t>(fold_to_16(shifted.sum_)));
}

void ChecksumSum::add_pseudo_header(const IpAddress& source, const IpAddress& destination,
                                    std::uint8_t protocol, std::uint32_t length) {
  add(source.bytes());
  add(destination.bytes());
  add_u16(protocol);
  add_u16(static_cast<std::uint16_t>(length >> 16));
  add_u16(static_cast<std::uint16_t>(length));
}

std::uint16_t ChecksumSum::partial() const {
  return __builtin_bswap16(static_cast<std::uint16_t>(fold_to_16(sum_)));
}

}  // namespace msb::net
