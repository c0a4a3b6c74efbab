// SPDX-License-Identifier: Apache-2.0
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "base/json.h"
#include "tools/msb/cli.h"
#include "tools/msb/spinner.h"

namespace msb::cli {
namespace {

bool json_errors = false;

// Columns a text takes on a terminal, near enough: one per UTF-8 character.
std::size_t display_width(std::string_view text) {
  return static_cast<std::size_t>(std::count_if(
      text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xc0U) != 0x80U; }));
}

std::string cut(const std::string& text, std::size_t width) {
  if (width == 0 || display_width(text) <= width) return text;
  std::string out;
  std::size_t columns = 0;
  for (const char c : text) {
    if ((static_cast<unsigned char>(c) & 0xc0U) != 0x80U && ++columns == width) break;
    out += c;
  }
  return out + "…";
}

}  // namespace

void set_json_errors(bool on) { json_errors = on; }

Error usage_error(std::string text) { return Error{Errc::kInvalid, -1, std::move(text)}; }

int report(const Error& error, int own_failure, std::string_view verb) {
  const bool usage = error.code == Errc::kInvalid && error.sys_errno == -1;
  const int code = usage ? kExitUsage : own_failure;
  if (json_errors) {
    JsonWriter out;
    out.begin_object().key("error").begin_object();
    out.field("code", usage ? std::string_view("usage") : errc_name(error.code));
    if (error.sys_errno > 0) out.field("errno", error.sys_errno);
    out.field("text", error.text).field("command", verb).field("exit_code", code).end_object().end_object();
    note(std::move(out).take());
    return code;
  }
  const bool color = color_wanted(STDERR_FILENO);
  std::string line = color ? "\033[31merror:\033[0m " : "error: ";
  line += printable(error.text);
  note(line);
  if (usage) note("  → see: msb " + std::string(verb) + (verb.empty() ? "" : " ") + "--help");
  if (error.code == Errc::kNotFound && error.text.starts_with("there is no sandbox"))
    note("  → msb ls shows what there is");
  return code;
}

void print(std::string_view text) {
  wipe_spinner();
  while (!text.empty()) {
    const ssize_t n = ::write(STDOUT_FILENO, text.data(), text.size());
    if (n > 0) {
      text.remove_prefix(static_cast<std::size_t>(n));
    } else if (errno == EPIPE) {
      ::_exit(kExitSignalBase + 13);
    } else if (errno != EINTR && errno != EAGAIN) {
      note(std::string("error: write to stdout: ") + std::strerror(errno));
      ::_exit(kExitFailure);
    }
  }
}

void note(std::string_view line) {
  wipe_spinner();
  std::string text(line);
  text += '\n';
  std::string_view rest = text;
  while (!rest.empty()) {
    const ssize_t n = ::write(STDERR_FILENO, rest.data(), rest.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return;
    rest.remove_prefix(static_cast<std::size_t>(n));
  }
}

bool color_wanted(int fd) {
  const char* no_color = std::getenv("NO_COLOR");
  return (no_color == nullptr || *no_color == '\0') && ::isatty(fd) == 1;
}

std::string printable(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size();) {
    std::size_t length = 1;
    while (length < 4 && i + length < text.size() &&
           (static_cast<unsigned char>(text[i + length]) & 0xc0U) == 0x80U)
      ++length;
    const std::string_view character = text.substr(i, length);
    const auto first = static_cast<unsigned char>(character.front());
    // C1 controls (U+0080 to U+009F) are commands to some terminals.
    const bool c1 = length == 2 && first == 0xc2 && static_cast<unsigned char>(character[1]) < 0xa0;
    if (first < 0x20 || first == 0x7f || c1 || !is_utf8(character)) {
      std::array<char, 8> escape{};
      for (const char c : character) {
        std::snprintf(escape.data(), escape.size(), "\\x%02x",
                      static_cast<unsigned>(static_cast<unsigned char>(c)));
        out += escape.data();
      }
    } else {
      out += character;
    }
    i += length;
  }
  return out;
}

std::string format_table(const std::vector<std::vector<std::string>>& rows,
                         const std::vector<std::size_t>& max_width) {
  std::vector<std::size_t> widths;
  std::vector<std::vector<std::string>> cells;
  for (const auto& row : rows) {
    auto& line = cells.emplace_back();
    for (std::size_t i = 0; i < row.size(); ++i) {
      line.push_back(cut(printable(row[i]), i < max_width.size() ? max_width[i] : 0));
      if (widths.size() <= i) widths.push_back(0);
      widths[i] = std::max(widths[i], display_width(line.back()));
    }
  }
  std::string out;
  for (const auto& line : cells) {
    for (std::size_t i = 0; i < line.size(); ++i) {
      out += line[i];
      if (i + 1 < line.size()) out.append(widths[i] - display_width(line[i]) + 2, ' ');
    }
    out += '\n';
  }
  return out;
}

std::string relative_time(std::int64_t then_ns, std::int64_t now_ns) {
  if (then_ns == 0) return "never";
  const std::int64_t seconds = (now_ns - then_ns) / 1'000'000'000;
  if (seconds < 2) return "just now";
  struct Unit {
    std::int64_t seconds;
    const char* name;
  };
  constexpr std::array<Unit, 6> kUnits = {{{31'536'000, "year"},
                                           {2'592'000, "month"},
                                           {86'400, "day"},
                                           {3600, "hour"},
                                           {60, "minute"},
                                           {1, "second"}}};
  for (const Unit& unit : kUnits) {
    const std::int64_t count = seconds / unit.seconds;
    if (count >= 1) return std::to_string(count) + " " + unit.name + (count == 1 ? " ago" : "s ago");
  }
  return "just now";
}

Result<Format> parse_format(std::string_view text, bool conf_allowed) {
  if (text.empty() || text == "table" || text == "text") return Format::kTable;
  if (text == "json") return Format::kJson;
  if (conf_allowed && text == "conf") return Format::kConf;
  return usage_error("--format: \"" + std::string(text) + "\" is none of table, json" +
                     (conf_allowed ? ", conf" : ""));
}

}  // namespace msb::cli
