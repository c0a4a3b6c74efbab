// SPDX-License-Identifier: Apache-2.0
// What the verbs of `msb` share: their table entries, the exit codes, and how they speak to people and to
// scripts.
//
// Data goes to stdout; progress, confirmations, warnings and errors go to stderr.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "supervisor/supervisor.h"
#include "tools/msb/args.h"

namespace msb::cli {

// Exit codes. run, exec, shell and attach pass the guest's code through, so their own failures are 125 as
// with Docker; the other verbs end with 1.
inline constexpr int kExitOk = 0;
inline constexpr int kExitFailure = 1;
inline constexpr int kExitUsage = 2;
inline constexpr int kExitOwnFailure = 125;
inline constexpr int kExitNotExecutable = 126;
inline constexpr int kExitNotFound = 127;
inline constexpr int kExitSignalBase = 128;

// Options that every verb takes. Ids below 100 are theirs.
enum GlobalOption : int {
  kHelp = 1,
  kVersion,
  kTree,
  kJsonErrors,
  kLogError,
  kLogWarn,
  kLogInfo,
  kLogDebug,
  kLogTrace,
};
inline constexpr int kFirstVerbOption = 100;
[[nodiscard]] std::span<const Option> global_options();

enum class Group : std::uint8_t { kSandboxes, kImages, kOther, kHidden };

struct Verb {
  std::string_view name;
  std::string_view aliases;  // separated by blanks
  Group group;
  std::string_view summary;                         // one line
  std::string_view usage;                           // what follows "msb NAME "
  std::string_view details;                         // more help and examples; may be empty
  std::span<const std::span<const Option>> tables;  // without the global ones
  Words words;
  int own_failure;                         // exit code of msb's own failures
  Result<int> (*run)(const Parsed& args);  // the exit code; an Error is printed and becomes own_failure
  std::string_view sub;  // set for verbs that pass their words on to another program: completion words
};

[[nodiscard]] std::span<const Verb* const> all_verbs();
[[nodiscard]] const Verb* find_verb(std::string_view name);

// An Error that is the caller's wrong use: exit code 2, with a pointer to the help.
[[nodiscard]] Error usage_error(std::string text);
// What a flag's value was read as; an error of it is wrong use, and names the flag.
template <typename T>
[[nodiscard]] Result<T> flag_value(std::string_view name, Result<T> read) {
  if (read.ok()) return read;
  return usage_error("--" + std::string(name) + ": " + read.error().text);
}

// Prints the error ("error: ..." or a JSON object with --json-errors) on stderr; the exit code for it.
int report(const Error& error, int own_failure, std::string_view verb);
void set_json_errors(bool on);

// Help.
[[nodiscard]] std::string main_help();
[[nodiscard]] std::string verb_help(const Verb& verb);
[[nodiscard]] std::string command_tree(const Verb* from);

// stdout, whole. A reader that has gone ends the program quietly with 141, as SIGPIPE would.
void print(std::string_view text);
// One line on stderr; nothing when a reader has gone.
void note(std::string_view line);
[[nodiscard]] bool color_wanted(int fd);

// Rows of cells as aligned columns; the header is the first row. Cells are cut to `max_width` with "…" (0:
// whole) and control characters in them are made visible.
[[nodiscard]] std::string format_table(const std::vector<std::vector<std::string>>& rows,
                                       const std::vector<std::size_t>& max_width);
// "3 minutes ago".
[[nodiscard]] std::string relative_time(std::int64_t then_ns, std::int64_t now_ns);
// Untrusted text for a terminal: control characters as \xNN, invalid UTF-8 too.
[[nodiscard]] std::string printable(std::string_view text);

// `path` below the current directory, unless it is absolute already.
[[nodiscard]] Result<std::string> absolute_path(std::string_view path);

// "--format": table or json.
enum class Format : std::uint8_t { kTable, kJson, kConf };
[[nodiscard]] Result<Format> parse_format(std::string_view text, bool conf_allowed = false);

// The names given and those that every --label selects, in order, each once. kInvalid when neither is given.
[[nodiscard]] Result<std::vector<std::string>> select_names(const supervisor::Home& home,
                                                            const std::vector<std::string_view>& names,
                                                            const std::vector<std::string_view>& labels);
// Does `action` on each and goes on after failures, which it reports. 0, or 1 when one failed. Several run at
// once.
[[nodiscard]] int for_each_name(const std::vector<std::string>& names, std::string_view verb,
                                const std::function<Status(const std::string&)>& action);

}  // namespace msb::cli
