// SPDX-License-Identifier: Apache-2.0
// Fragments in any order: what comes out whole is made of the bytes that went in at their places, and of one
// version of each. Records of eight bytes: id and sender, offset / 8 (two bytes), length, more, time step,
// fill, spare.
#include <cstdlib>
#include <cstring>
#include <vector>

#include "net/reassembly.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace msb::net;  // NOLINT: a fuzz target is one function
  Reassembler reassembler;
  msb::Instant now{};
  std::vector<std::uint8_t> payload(2048);
  for (; size >= 8; data += 8, size -= 8) {
    IpPacket fragment;
    fragment.source = msb::IpAddress::v4(0xac100002);
    fragment.destination = msb::IpAddress::v4(0x01020300U + data[0] % 4U);
    fragment.protocol = kIpProtocolUdp;
    fragment.is_fragment = true;
    fragment.fragment_id = data[0];
    fragment.fragment_offset = ((data[1] * 256U + data[2]) & 0x1fffU) * 8;
    fragment.more_fragments = (data[4] & 1) != 0;
    const std::size_t length = data[3] * 8U + (fragment.more_fragments ? 0U : data[4] >> 5U);
    // Each byte tells its place, so that the whole can be judged.
    for (std::size_t i = 0; i < length; ++i)
      payload[i] = static_cast<std::uint8_t>((fragment.fragment_offset + i) % 251);
    fragment.payload = msb::ByteView(payload).first(length);
    fragment.whole = fragment.payload;
    now = now + std::chrono::milliseconds(data[5] * 50);
    Drop drop = Drop::kNone;
    const auto packet = reassembler.add(fragment, now, drop);
    if (reassembler.sets() > Reassembler::kMaxSets) std::abort();
    if (!packet) continue;
    if (drop != Drop::kNone || packet->bytes.size() > 65535) std::abort();
    for (std::size_t i = 0; i < packet->bytes.size(); ++i) {
      if (packet->bytes[i] != i % 251) std::abort();
    }
  }
  return 0;
}
