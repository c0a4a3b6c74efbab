// SPDX-License-Identifier: Apache-2.0
#include "base/ip_address.h"

#include <algorithm>
#include <cstdio>

namespace msb {
namespace {

// At most three decimal digits, no leading zero, at most 255.
std::optional<std::uint8_t> parse_octet(std::string_view text) {
  if (text.empty() || text.size() > 3 || (text.size() > 1 && text[0] == '0')) return std::nullopt;
  unsigned value = 0;
  for (const char c : text) {
    if (c < '0' || c > '9') return std::nullopt;
    value = value * 10 + static_cast<unsigned>(c - '0');
  }
  if (value > 255) return std::nullopt;
  return static_cast<std::uint8_t>(value);
}

std::optional<std::uint32_t> parse_v4(std::string_view text) {
  if (text.size() > 15) return std::nullopt;
  std::uint32_t value = 0;
  for (int part = 0; part < 4; ++part) {
    const std::size_t dot = text.find('.');
    if ((part < 3) == (dot == std::string_view::npos)) return std::nullopt;
    const auto octet = parse_octet(text.substr(0, dot));
    if (!octet) return std::nullopt;
    value = value << 8 | *octet;
    text = part < 3 ? text.substr(dot + 1) : std::string_view{};
  }
  return value;
}

std::optional<std::uint16_t> parse_group(std::string_view text) {
  if (text.empty() || text.size() > 4) return std::nullopt;
  unsigned value = 0;
  for (const char c : text) {
    unsigned digit = 0;
    if (c >= '0' && c <= '9')
      digit = static_cast<unsigned>(c - '0');
    else if (c >= 'a' && c <= 'f')
      digit = static_cast<unsigned>(c - 'a') + 10;
    else if (c >= 'A' && c <= 'F')
      digit = static_cast<unsigned>(c - 'A') + 10;
    else
      return std::nullopt;
    value = value << 4 | digit;
  }
  return static_cast<std::uint16_t>(value);
}

// Groups separated by single colons; the last may be a dotted quad. nullopt when malformed or more than 8
// groups.
std::optional<std::size_t> parse_groups(std::string_view text, bool quad_allowed,
                                        std::array<std::uint16_t, 8>& out) {
  std::size_t count = 0;
  while (count < 8) {
    const std::size_t colon = text.find(':');
    const std::string_view part = text.substr(0, colon);
    if (colon == std::string_view::npos && quad_allowed && part.find('.') != std::string_view::npos) {
      const auto quad = parse_v4(part);
      if (!quad || count > 6) return std::nullopt;
      out[count] = static_cast<std::uint16_t>(*quad >> 16);
      out[count + 1] = static_cast<std::uint16_t>(*quad);
      return count + 2;
    }
    const auto group = parse_group(part);
    if (!group) return std::nullopt;
    out[count++] = *group;
    if (colon == std::string_view::npos) return count;
    text = text.substr(colon + 1);
  }
  return std::nullopt;
}

std::optional<std::array<std::uint8_t, 16>> parse_v6(std::string_view text) {
  if (text.size() > 45) return std::nullopt;
  std::array<std::uint16_t, 8> groups{};
  const std::size_t gap = text.find("::");
  if (gap == std::string_view::npos) {
    const auto count = parse_groups(text, true, groups);
    if (!count || *count != 8) return std::nullopt;
  } else {
    std::array<std::uint16_t, 8> head{};
    std::array<std::uint16_t, 8> tail{};
    std::size_t head_count = 0;
    std::size_t tail_count = 0;
    if (gap > 0) {
      const auto count = parse_groups(text.substr(0, gap), false, head);
      if (!count) return std::nullopt;
      head_count = *count;
    }
    if (const std::string_view rest = text.substr(gap + 2); !rest.empty()) {
      const auto count = parse_groups(rest, true, tail);
      if (!count) return std::nullopt;
      tail_count = *count;
    }
    if (head_count > 7 || tail_count > 7 - head_count) return std::nullopt;
    std::copy_n(head.begin(), head_count, groups.begin());
    std::copy_n(tail.begin(), tail_count, groups.end() - static_cast<std::ptrdiff_t>(tail_count));
  }
  std::array<std::uint8_t, 16> bytes{};
  for (std::size_t i = 0; i < 8; ++i) {
    bytes[2 * i] = static_cast<std::uint8_t>(groups[i] >> 8);
    bytes[2 * i + 1] = static_cast<std::uint8_t>(groups[i]);
  }
  return bytes;
}

}  // namespace

std::optional<IpAddress> IpAddress::from_bytes(std::span<const std::uint8_t> bytes) {
  if (bytes.size() != 4 && bytes.size() != 16) return std::nullopt;
  IpAddress out;
  out.family_ = bytes.size() == 4 ? Family::kV4 : Family::kV6;
  std::copy(bytes.begin(), bytes.end(), out.bytes_.begin());
  return out;
}

std::optional<IpAddress> IpAddress::parse(std::string_view text) {
  if (text.find(':') == std::string_view::npos) {
    const auto value = parse_v4(text);
    return value ? std::optional(v4(*value)) : std::nullopt;
  }
  const auto bytes = parse_v6(text);
  return bytes ? std::optional(v6(*bytes)) : std::nullopt;
}

bool IpAddress::is_unspecified() const {
  return std::all_of(bytes_.begin(), bytes_.end(), [](std::uint8_t byte) { return byte == 0; });
}

std::string IpAddress::text() const {
  char buffer[48];
  if (is_v4()) {
    std::snprintf(buffer, sizeof buffer, "%u.%u.%u.%u", bytes_[0], bytes_[1], bytes_[2], bytes_[3]);
    return buffer;
  }
  std::array<unsigned, 8> groups{};
  for (std::size_t i = 0; i < 8; ++i)
    groups[i] = static_cast<unsigned>(bytes_[2 * i] << 8 | bytes_[2 * i + 1]);
  // The mapped form is written with its dotted quad (RFC 5952 section 5).
  if (std::all_of(groups.begin(), groups.begin() + 5, [](unsigned g) { return g == 0; }) &&
      groups[5] == 0xffff) {
    std::snprintf(buffer, sizeof buffer, "::ffff:%u.%u.%u.%u", bytes_[12], bytes_[13], bytes_[14],
                  bytes_[15]);
    return buffer;
  }
  std::size_t best = 8;
  std::size_t best_length = 1;  // a single zero group is not shortened
  for (std::size_t i = 0; i < 8;) {
    std::size_t run = 0;
    while (i + run < 8 && groups[i + run] == 0) ++run;
    if (run > best_length) {
      best = i;
      best_length = run;
    }
    i += run + 1;
  }
  std::string out;
  for (std::size_t i = 0; i < 8; ++i) {
    if (i == best) {
      out += "::";
      i += best_length - 1;
      continue;
    }
    if (!out.empty() && out.back() != ':') out += ':';
    std::snprintf(buffer, sizeof buffer, "%x", groups[i]);
    out += buffer;
  }
  return out;
}

std::optional<IpPrefix> IpPrefix::make(const IpAddress& address, unsigned length) {
  if (length > address.bit_length()) return std::nullopt;
  std::array<std::uint8_t, 16> bytes = address.raw();
  const std::size_t size = address.bit_length() / 8;
  for (std::size_t i = 0; i < size; ++i) {
    const unsigned first_bit = static_cast<unsigned>(i) * 8;
    if (first_bit >= length)
      bytes[i] = 0;
    else if (length - first_bit < 8)
      bytes[i] = static_cast<std::uint8_t>(bytes[i] & (0xff00U >> (length - first_bit)));
  }
  IpPrefix out;
  out.address = *IpAddress::from_bytes(std::span(bytes).first(size));
  out.length = static_cast<std::uint8_t>(length);
  return out;
}

std::optional<IpPrefix> IpPrefix::parse(std::string_view text) {
  const std::size_t slash = text.find('/');
  const auto address = IpAddress::parse(text.substr(0, slash));
  if (!address) return std::nullopt;
  if (slash == std::string_view::npos) return make(*address, address->bit_length());
  const auto length = parse_port(text.substr(slash + 1));
  return length ? make(*address, *length) : std::nullopt;
}

bool IpPrefix::contains(const IpAddress& candidate) const {
  if (candidate.family() != address.family()) return false;
  const auto cut = make(candidate, length);
  return cut && cut->address == address;
}

bool IpPrefix::contains(const IpPrefix& inner) const {
  return inner.length >= length && contains(inner.address);
}

std::string IpPrefix::text() const { return address.text() + "/" + std::to_string(length); }

std::string endpoint_text(const IpAddress& address, std::uint16_t port) {
  return (address.is_v6() ? "[" + address.text() + "]" : address.text()) + ":" + std::to_string(port);
}

std::optional<std::uint16_t> parse_port(std::string_view text) {
  if (text.empty() || text.size() > 5 || (text.size() > 1 && text[0] == '0')) return std::nullopt;
  unsigned value = 0;
  for (const char c : text) {
    if (c < '0' || c > '9') return std::nullopt;
    value = value * 10 + static_cast<unsigned>(c - '0');
  }
  if (value > 65535) return std::nullopt;
  return static_cast<std::uint16_t>(value);
}

}  // namespace msb
