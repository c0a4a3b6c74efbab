// SPDX-License-Identifier: Apache-2.0
#include "base/hostname.h"

#include <algorithm>
#include <cstdint>
#include <optional>
#include <vector>

namespace msb {
namespace {

constexpr std::size_t kMaxName = 253;  // RFC 1035 section 2.3.4, without the root's length byte
constexpr std::size_t kMaxLabel = 63;

Error bad(const char* why) { return make_error(Errc::kInvalid, "host name: %s", why); }

// RFC 3492 section 6: generalised variable-length integers with bias adaptation.
constexpr std::uint32_t kBase = 36;
constexpr std::uint32_t kTmin = 1;
constexpr std::uint32_t kTmax = 26;

std::uint32_t adapt(std::uint32_t delta, std::uint32_t points, bool first) {
  delta = first ? delta / 700 : delta / 2;
  delta += delta / points;
  std::uint32_t k = 0;
  for (; delta > ((kBase - kTmin) * kTmax) / 2; k += kBase) delta /= kBase - kTmin;
  return k + (kBase - kTmin + 1) * delta / (delta + 38);
}

char digit(std::uint32_t value) { return static_cast<char>(value < 26 ? 'a' + value : '0' + (value - 26)); }

std::uint32_t threshold(std::uint32_t k, std::uint32_t bias) {
  return k <= bias ? kTmin : (k >= bias + kTmax ? kTmax : k - bias);
}

// At most 63 code points come in, so no sum below can overflow 32 bits: 0x10ffff * 64 < 2^27.
std::string punycode(const std::vector<std::uint32_t>& label) {
  std::string out;
  for (const std::uint32_t c : label) {
    if (c < 0x80) out += static_cast<char>(c);
  }
  const std::size_t basic = out.size();
  std::size_t handled = basic;
  if (basic > 0) out += '-';
  std::uint32_t n = 0x80;
  std::uint32_t delta = 0;
  std::uint32_t bias = 72;
  while (handled < label.size()) {
    std::uint32_t next = 0x110000;
    for (const std::uint32_t c : label) {
      if (c >= n) next = std::min(next, c);
    }
    delta += (next - n) * static_cast<std::uint32_t>(handled + 1);
    n = next;
    for (const std::uint32_t c : label) {
      if (c < n) ++delta;
      if (c != n) continue;
      std::uint32_t q = delta;
      for (std::uint32_t k = kBase;; k += kBase) {
        const std::uint32_t t = threshold(k, bias);
        if (q < t) break;
        out += digit(t + (q - t) % (kBase - t));
        q = (q - t) / (kBase - t);
      }
      out += digit(q);
      bias = adapt(delta, static_cast<std::uint32_t>(handled + 1), handled == basic);
      delta = 0;
      ++handled;
    }
    ++delta;
    ++n;
  }
  return out;
}

// The next code point of UTF-8 text, shortest form only, no surrogates.
std::optional<std::uint32_t> take_code_point(std::string_view& text) {
  const auto at = [&](std::size_t i) { return static_cast<std::uint8_t>(text[i]); };
  const std::uint8_t lead = at(0);
  std::size_t size = 0;
  std::uint32_t value = 0;
  std::uint32_t floor = 0;
  if (lead < 0x80) {
    size = 1;
    value = lead;
  } else if ((lead & 0xe0) == 0xc0) {
    size = 2;
    value = lead & 0x1f;
    floor = 0x80;
  } else if ((lead & 0xf0) == 0xe0) {
    size = 3;
    value = lead & 0x0f;
    floor = 0x800;
  } else if ((lead & 0xf8) == 0xf0) {
    size = 4;
    value = lead & 0x07;
    floor = 0x10000;
  } else {
    return std::nullopt;
  }
  if (text.size() < size) return std::nullopt;
  for (std::size_t i = 1; i < size; ++i) {
    if ((at(i) & 0xc0) != 0x80) return std::nullopt;
    value = value << 6 | (at(i) & 0x3f);
  }
  if (value < floor || value > 0x10ffff || (value >= 0xd800 && value < 0xe000)) return std::nullopt;
  text.remove_prefix(size);
  return value;
}

// What IDNA would map, ignore or forbid. Without its tables the safe subset is refused outright: capitals and
// case pairs of the common bicameral scripts, spaces and punctuation, invisible and directional marks, full-
// and half-width forms, compatibility blocks, private use.
bool needs_mapping(std::uint32_t c) {
  if (c < 0xc0) return true;                // Latin-1 controls and signs
  if (c >= 0xc0 && c <= 0xde) return true;  // Latin-1 capitals
  if (c == 0xd7 || c == 0xf7 || c == 0xdf) return true;
  if (c >= 0x100 && c <= 0x137 && (c & 1) == 0) return true;  // Latin Extended-A capitals
  if (c >= 0x139 && c <= 0x148 && (c & 1) == 1) return true;
  if (c == 0x149 || c == 0x178 || c == 0x17f) return true;
  if (c >= 0x14a && c <= 0x177 && (c & 1) == 0) return true;
  if (c >= 0x179 && c <= 0x17e && (c & 1) == 1) return true;
  if (c >= 0x180 && c <= 0x2af) return true;                  // Extended-B, IPA: rarely used
  if (c >= 0x2b0 && c <= 0x36f) return true;                  // modifiers, combining marks
  if (c >= 0x370 && c <= 0x3ab) return true;                  // Greek capitals and signs
  if (c == 0x3c2 || (c >= 0x3cf && c <= 0x3ff)) return true;  // final sigma, variants
  if (c >= 0x400 && c <= 0x42f) return true;                  // Cyrillic capitals
  if (c >= 0x460 && c <= 0x52f) return true;
  if (c >= 0x531 && c <= 0x556) return true;    // Armenian capitals
  if (c >= 0x10a0 && c <= 0x10cf) return true;  // Georgian capitals
  if (c >= 0x1100 && c <= 0x11ff) return true;  // Hangul jamo
  if (c >= 0x1c80 && c <= 0x2bff) return true;  // phonetic, punctuation, symbols
  if (c >= 0x2c00 && c <= 0x2fff) return true;
  if (c == 0x3000 || c == 0x3002 || (c >= 0x3003 && c <= 0x3004))
    return true;  // ideographic space and full stop
  if (c >= 0x3008 && c <= 0x3040) return true;
  if (c >= 0x3131 && c <= 0x318f) return true;
  if (c >= 0x3200 && c <= 0x33ff) return true;
  if (c >= 0xa640 && c <= 0xabff) return true;
  if (c >= 0xe000 && c <= 0xffff) return true;  // private, presentation, width forms
  return c > 0x2ffff;
}

Result<std::string> encode_label(std::string_view label) {
  if (label.empty()) return bad("empty label");
  std::vector<std::uint32_t> points;
  bool ascii = true;
  while (!label.empty()) {
    const auto c = take_code_point(label);
    if (!c) return bad("not valid UTF-8");
    if (points.size() == kMaxLabel) return bad("label longer than 63 bytes");
    std::uint32_t point = *c;
    if (point < 0x80) {
      if (point >= 'A' && point <= 'Z') point += 'a' - 'A';
      const bool fine =
          (point >= 'a' && point <= 'z') || (point >= '0' && point <= '9') || point == '-' || point == '_';
      if (!fine) return bad("a character that no host name has");
    } else {
      ascii = false;
      if (needs_mapping(point)) return bad("a character that has to be written as \"xn--\"");
    }
    points.push_back(point);
  }
  if (points.front() == '-' || points.back() == '-') return bad("label starts or ends with a hyphen");
  const bool double_hyphen = points.size() >= 4 && points[2] == '-' && points[3] == '-';
  if (!ascii) {
    if (double_hyphen) return bad("hyphens in third and fourth place of an international label");
    std::string encoded = "xn--" + punycode(points);
    if (encoded.size() > kMaxLabel) return bad("label longer than 63 bytes");
    return encoded;
  }
  std::string out(points.begin(), points.end());
  if (double_hyphen && out.starts_with("xn--") && out.size() == 4) return bad("empty \"xn--\" label");
  return out;
}

}  // namespace

Result<Hostname> Hostname::parse(std::string_view text) {
  if (text.size() > 4 * kMaxName) return bad("longer than 253 bytes");
  if (!text.empty() && text.back() == '.') text.remove_suffix(1);
  if (text.empty()) return bad("empty");
  std::string out;
  std::string last;
  for (std::size_t round = 0; round <= kMaxName; ++round) {
    const std::size_t dot = text.find('.');
    MSB_ASSIGN(last, encode_label(text.substr(0, dot)));
    if (!out.empty()) out += '.';
    out += last;
    if (out.size() > kMaxName) return bad("longer than 253 bytes");
    if (dot == std::string_view::npos) break;
    text.remove_prefix(dot + 1);
  }
  // A last label of digits alone, or "0x…", is what resolvers and URL parsers take for an IPv4 address.
  const bool numeric = std::all_of(last.begin(), last.end(), [](char c) { return c >= '0' && c <= '9'; });
  const bool hex = last.starts_with("0x") && std::all_of(last.begin() + 2, last.end(), [](char c) {
                     return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
                   });
  if (numeric || hex) return bad("an address, not a name");
  return Hostname(std::move(out));
}

std::size_t Hostname::labels() const {
  return static_cast<std::size_t>(std::count(text_.begin(), text_.end(), '.')) + 1;
}

bool Hostname::is_under(const Hostname& suffix) const {
  const std::string& tail = suffix.text_;
  if (text_ == tail) return true;
  return text_.size() > tail.size() && text_.ends_with(tail) && text_[text_.size() - tail.size() - 1] == '.';
}

}  // namespace msb
