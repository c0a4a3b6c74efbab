// SPDX-License-Identifier: Apache-2.0
#include "net/wire/ip.h"

#include <cstring>

#include "base/check.h"
#include "net/wire/checksum.h"

namespace msb::net {
namespace {

constexpr std::uint16_t kMoreFragments = 0x2000;
constexpr std::uint16_t kOffsetMask = 0x1fff;
constexpr std::uint16_t kReservedFlag = 0x8000;
constexpr std::uint16_t kDontFragment = 0x4000;

// RFC 8200 section 4.
constexpr std::uint8_t kHopByHop = 0;
constexpr std::uint8_t kRouting = 43;
constexpr std::uint8_t kFragmentHeader = 44;
constexpr std::uint8_t kDestinationOptions = 60;
constexpr int kMaxExtensionHeaders = 8;

struct Ipv6Fragment {
  std::uint8_t next_header = 0;
  std::uint8_t reserved = 0;
  Be16 offset_flags;
  Be32 id;
};
static_assert(sizeof(Ipv6Fragment) == 8 && WireStruct<Ipv6Fragment>);

}  // namespace

Drop parse_ipv4(ByteView bytes, IpPacket& out) {
  ByteReader reader(bytes);
  const auto header = reader.take<Ipv4Header>();
  if (!header) return Drop::kTruncated;
  if ((header->version_ihl >> 4) != 4) return Drop::kBadHeader;
  const std::size_t header_length = static_cast<std::size_t>(header->version_ihl & 0xf) * 4;
  const std::size_t total = header->total_length.get();
  if (header_length < sizeof(Ipv4Header) || total < header_length) return Drop::kBadHeader;
  if (total > bytes.size()) return Drop::kTruncated;
  ChecksumSum sum;
  sum.add(bytes.first(header_length));
  if (sum.finish() != 0) return Drop::kBadChecksum;
  const std::uint16_t fragment = header->fragment.get();
  if ((fragment & kReservedFlag) != 0) return Drop::kBadHeader;
  out.source = IpAddress::v4(header->source.get());
  out.destination = IpAddress::v4(header->destination.get());
  out.protocol = header->protocol;
  out.hop_limit = header->ttl;
  out.more_fragments = (fragment & kMoreFragments) != 0;
  out.fragment_offset = static_cast<std::uint32_t>(fragment & kOffsetMask) * 8;
  out.is_fragment = out.more_fragments || out.fragment_offset != 0;
  if (out.is_fragment && (fragment & kDontFragment) != 0) return Drop::kBadHeader;
  out.fragment_id = header->id.get();
  out.whole = bytes.first(total);
  out.payload = out.whole.subspan(header_length);
  return Drop::kNone;
}

Drop parse_ipv6(ByteView bytes, IpPacket& out) {
  ByteReader reader(bytes);
  const auto header = reader.take<Ipv6Header>();
  if (!header) return Drop::kTruncated;
  if ((header->version_class_label.get() >> 28) != 6) return Drop::kBadHeader;
  const std::size_t payload_length = header->payload_length.get();
  if (payload_length > reader.remaining()) return Drop::kTruncated;
  out.source = IpAddress::v6(header->source);
  out.destination = IpAddress::v6(header->destination);
  out.hop_limit = header->hop_limit;
  out.whole = bytes.first(sizeof(Ipv6Header) + payload_length);
  out.is_fragment = false;
  out.more_fragments = false;
  out.fragment_offset = 0;
  ByteReader rest(out.whole.subspan(sizeof(Ipv6Header)));
  std::uint8_t next = header->next_header;
  for (int i = 0; i <= kMaxExtensionHeaders; ++i) {
    if (next == kFragmentHeader) {
      const auto fragment = rest.take<Ipv6Fragment>();
      if (!fragment) return Drop::kTruncated;
      next = fragment->next_header;
      const std::uint16_t field = fragment->offset_flags.get();
      out.more_fragments = (field & 1) != 0;
      out.fragment_offset = field & 0xfff8U;
      out.fragment_id = fragment->id.get();
      // An "atomic" fragment (RFC 6946) is an ordinary packet.
      out.is_fragment = out.more_fragments || out.fragment_offset != 0;
      // Headers behind a fragment header are seen only after reassembly; a second one is refused there.
      if (out.is_fragment) break;
      continue;
    }
    if (next != kHopByHop && next != kRouting && next != kDestinationOptions) break;
    if (i == kMaxExtensionHeaders) return Drop::kBadHeader;
    if (next == kHopByHop && i != 0) return Drop::kBadHeader;
    const bool routing = next == kRouting;
    if (rest.remaining() < 8) return Drop::kTruncated;
    const ByteView extension = rest.rest();
    const std::size_t length = (static_cast<std::size_t>(extension[1]) + 1) * 8;
    if (routing && extension[3] != 0) return Drop::kSourceRoute;  // segments left
    next = extension[0];
    if (!rest.skip(length)) return Drop::kTruncated;
  }
  out.protocol = next;
  out.payload = rest.rest();
  return Drop::kNone;
}

std::size_t write_ip_header(MutableBytes out, const IpAddress& source, const IpAddress& destination,
                            std::uint8_t protocol, std::size_t payload_length, std::uint8_t hop_limit) {
  MSB_CHECK(source.family() == destination.family() && out.size() >= sizeof(Ipv6Header));
  if (source.is_v4()) {
    MSB_CHECK(payload_length <= 65535 - sizeof(Ipv4Header));
    Ipv4Header header;
    header.total_length = static_cast<std::uint16_t>(sizeof header + payload_length);
    header.fragment = kDontFragment;
    header.ttl = hop_limit;
    header.protocol = protocol;
    header.source = source.v4_value();
    header.destination = destination.v4_value();
    std::memcpy(out.data(), &header, sizeof header);
    ChecksumSum sum;
    sum.add(out.first(sizeof header));
    header.checksum = sum.finish();
    std::memcpy(out.data(), &header, sizeof header);
    return sizeof header;
  }
  MSB_CHECK(payload_length <= 65535);
  Ipv6Header header;
  header.payload_length = static_cast<std::uint16_t>(payload_length);
  header.next_header = protocol;
  header.hop_limit = hop_limit;
  header.source = source.raw();
  header.destination = destination.raw();
  std::memcpy(out.data(), &header, sizeof header);
  return sizeof header;
}

void put_ip_header(ByteWriter& out, const IpAddress& source, const IpAddress& destination,
                   std::uint8_t protocol, std::size_t payload_length, std::uint8_t hop_limit) {
  std::array<std::uint8_t, sizeof(Ipv6Header)> buffer{};
  const std::size_t used = write_ip_header(buffer, source, destination, protocol, payload_length, hop_limit);
  out.put_bytes(ByteView(buffer).first(used));
}

}  // namespace msb::net
