// SPDX-License-Identifier: Apache-2.0
// The one way a host name from anywhere (rule, DNS question, TLS SNI, HTTP Host, command line) becomes a
// value, so that no two places can disagree about which name it is.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"

namespace msb {

// A name in canonical form: lower-case ASCII labels of letters, digits, '-' and '_', joined by dots, without
// a trailing dot; labels of 1..63 bytes that neither start nor end with '-', at most 253 bytes in all.
class Hostname {
 public:
  // One trailing dot is dropped and ASCII capitals are lowered. Non-ASCII text is taken as IDN in UTF-8 and
  // encoded by Punycode per label (RFC 3492) after refusing what would need mapping: ASCII-range look-alike
  // dots, control and invisible characters, and characters with a case. Everything else (control bytes,
  // blanks, empty labels, NUL, an IP address literal, an all-numeric last label, malformed "xn--" labels) is
  // kInvalid.
  [[nodiscard]] static Result<Hostname> parse(std::string_view text);
  [[nodiscard]] const std::string& text() const { return text_; }
  // Number of labels.
  [[nodiscard]] std::size_t labels() const;
  // True if this is `suffix` itself or ends in "." + suffix.
  [[nodiscard]] bool is_under(const Hostname& suffix) const;
  friend bool operator==(const Hostname&, const Hostname&) = default;
  friend auto operator<=>(const Hostname&, const Hostname&) = default;

 private:
  explicit Hostname(std::string text) : text_(std::move(text)) {}
  std::string text_;
};

}  // namespace msb
