// SPDX-License-Identifier: Apache-2.0
#include "tools/msb/args.h"

#include <algorithm>

namespace msb::cli {
namespace {

const Option* find_long(std::span<const std::span<const Option>> tables, std::string_view name) {
  for (const auto table : tables) {
    for (const Option& option : table) {
      if (option.name == name) return &option;
    }
  }
  return nullptr;
}

const Option* find_short(std::span<const std::span<const Option>> tables, char letter) {
  for (const auto table : tables) {
    for (const Option& option : table) {
      if (option.letter == letter && letter != 0) return &option;
    }
  }
  return nullptr;
}

Error usage(std::string text) { return Error{Errc::kInvalid, 0, std::move(text)}; }

Error unknown_option(std::span<const std::span<const Option>> tables, std::string_view name) {
  std::vector<std::string_view> names;
  for (const auto table : tables) {
    for (const Option& option : table) {
      if (!option.help.empty()) names.push_back(option.name);
    }
  }
  std::string text = "unknown option --" + std::string(name);
  if (const auto near = nearest(name, names); !near.empty())
    text += "; did you mean --" + std::string(near) + "?";
  return usage(std::move(text));
}

// Distance of two words: insertions, deletions, replacements and swaps of neighbours.
std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::vector<std::size_t>> d(a.size() + 1, std::vector<std::size_t>(b.size() + 1));
  for (std::size_t i = 0; i <= a.size(); ++i) d[i][0] = i;
  for (std::size_t j = 0; j <= b.size(); ++j) d[0][j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t replace = d[i - 1][j - 1] + (a[i - 1] == b[j - 1] ? 0U : 1U);
      d[i][j] = std::min({d[i - 1][j] + 1, d[i][j - 1] + 1, replace});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        d[i][j] = std::min(d[i][j], d[i - 2][j - 2] + 1);
    }
  }
  return d[a.size()][b.size()];
}

}  // namespace

bool Parsed::has(int id) const {
  return std::any_of(options.begin(), options.end(), [id](const Given& given) { return given.id == id; });
}

std::string_view Parsed::last(int id, std::string_view fallback) const {
  for (auto given = options.rbegin(); given != options.rend(); ++given) {
    if (given->id == id) return given->value;
  }
  return fallback;
}

std::vector<std::string_view> Parsed::all(int id) const {
  std::vector<std::string_view> out;
  for (const Given& given : options) {
    if (given.id == id) out.push_back(given.value);
  }
  return out;
}

std::string_view nearest(std::string_view word, std::span<const std::string_view> candidates) {
  if (word.size() > 40) return {};
  std::string_view best;
  std::size_t best_distance = std::max<std::size_t>(1, word.size() / 3) + 1;
  for (const std::string_view candidate : candidates) {
    if (word.size() >= 3 && candidate.starts_with(word)) return candidate;
    const std::size_t distance = edit_distance(word, candidate);
    if (distance < best_distance) {
      best_distance = distance;
      best = candidate;
    }
  }
  return best;
}

Result<Parsed> parse_args(std::span<const std::string_view> words,
                          std::span<const std::span<const Option>> tables, Words style) {
  Parsed out;
  bool options_over = false;
  for (std::size_t i = 0; i < words.size(); ++i) {
    const std::string_view word = words[i];
    if (!options_over && word == "--") {
      options_over = true;
      if (style == Words::kCommandLast) {
        out.command.assign(words.begin() + static_cast<std::ptrdiff_t>(i) + 1, words.end());
        return out;
      }
      continue;
    }
    if (options_over || word.size() < 2 || word.front() != '-') {
      if (style == Words::kCommandLast && !out.positionals.empty()) {
        out.command.assign(words.begin() + static_cast<std::ptrdiff_t>(i), words.end());
        return out;
      }
      out.positionals.push_back(word);
      continue;
    }
    if (word.starts_with("--")) {
      const auto equals = word.find('=');
      const std::string_view name = word.substr(2, equals == std::string_view::npos ? equals : equals - 2);
      const Option* option = find_long(tables, name);
      if (option == nullptr) return unknown_option(tables, name);
      if (option->value.empty()) {
        if (equals != std::string_view::npos) return usage("--" + std::string(name) + " takes no value");
        out.options.push_back({option->id, option->name, {}});
      } else if (equals != std::string_view::npos) {
        out.options.push_back({option->id, option->name, word.substr(equals + 1)});
      } else if (i + 1 < words.size()) {
        out.options.push_back({option->id, option->name, words[++i]});
      } else {
        return usage("--" + std::string(name) + " needs a value (" + std::string(option->value) + ")");
      }
      continue;
    }
    for (std::size_t at = 1; at < word.size(); ++at) {
      const Option* option = find_short(tables, word[at]);
      if (option == nullptr) return usage("unknown option -" + std::string(1, word[at]));
      if (option->value.empty()) {
        out.options.push_back({option->id, option->name, {}});
        continue;
      }
      std::string_view value = word.substr(at + 1);
      if (value.starts_with("=")) value.remove_prefix(1);
      if (at + 1 == word.size()) {
        if (i + 1 >= words.size()) {
          return usage("-" + std::string(1, word[at]) + " needs a value (" + std::string(option->value) +
                       ")");
        }
        value = words[++i];
      }
      out.options.push_back({option->id, option->name, value});
      break;
    }
  }
  return out;
}

}  // namespace msb::cli
