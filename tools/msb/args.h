// SPDX-License-Identifier: Apache-2.0
// Command-line words into options and positionals, by a constant table per verb: nothing is built at
// start-up, and the same tables make the help, the command tree and the completions.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"

namespace msb::cli {

struct Option {
  int id;                  // the verb's enumerator
  std::string_view name;   // long, without dashes
  char letter;             // short form, 0 for none
  std::string_view value;  // what the value is called in help ("SIZE"); empty: a switch
  std::string_view help;   // one line; empty: hidden
};

enum class Words : std::uint8_t {
  kOptionsAnywhere,  // options and positionals mix; "--" ends the options
  kCommandLast,      // after the first positional, the next non-option word (or "--") starts a command taken
                     // verbatim
};

struct Given {
  int id;
  std::string_view name;  // the option's long one
  std::string_view value;
};

struct Parsed {
  std::vector<Given> options;  // in the order given
  std::vector<std::string_view> positionals;
  std::vector<std::string_view> command;  // kCommandLast
  [[nodiscard]] bool has(int id) const;
  // The last value given, or `fallback`.
  [[nodiscard]] std::string_view last(int id, std::string_view fallback = {}) const;
  [[nodiscard]] std::vector<std::string_view> all(int id) const;
};

// Errors: kInvalid; an unknown option comes with the nearest known one.
[[nodiscard]] Result<Parsed> parse_args(std::span<const std::string_view> words,
                                        std::span<const std::span<const Option>> tables, Words style);

// The candidate that `word` is most likely a mistyping of; empty when none is near.
[[nodiscard]] std::string_view nearest(std::string_view word, std::span<const std::string_view> candidates);

}  // namespace msb::cli
