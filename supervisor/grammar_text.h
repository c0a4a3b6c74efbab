// SPDX-License-Identifier: Apache-2.0
// What the value grammars share: characters and the shape of their errors. Private to supervisor/.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"

namespace msb::supervisor {

inline bool is_digit(char c) { return c >= '0' && c <= '9'; }
inline bool is_alpha(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
inline bool is_alnum(char c) { return is_digit(c) || is_alpha(c); }
inline char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }
inline std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = lower(c);
  return out;
}

// kInvalid: invalid WHAT "GIVEN": WANTED.
inline Error invalid(std::string_view what, std::string_view given, std::string_view wanted) {
  std::string text = "invalid ";
  text += what;
  text += " \"";
  text += given;
  text += "\": ";
  text += wanted;
  return Error{Errc::kInvalid, 0, std::move(text)};
}

}  // namespace msb::supervisor
