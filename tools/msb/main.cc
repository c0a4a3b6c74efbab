// SPDX-License-Identifier: Apache-2.0
// `msb`: finds the verb, parses its words by its tables, runs it, reports what went wrong.
#include <array>
#include <string>
#include <vector>

#include "base/log.h"
#include "tools/msb/cli.h"

namespace msb::cli {
namespace {

int unknown_verb(std::string_view name) {
  std::vector<std::string_view> names;
  for (const Verb* verb : all_verbs()) {
    if (verb->group != Group::kHidden) names.push_back(verb->name);
  }
  std::string text = "unknown command \"" + std::string(name) + "\"";
  if (const auto near = nearest(name, names); !near.empty())
    text += "; did you mean \"msb " + std::string(near) + "\"?";
  return report(usage_error(std::move(text)), kExitFailure, "");
}

void apply_log_level(const Parsed& args) {
  LogLevel level = LogLevel::kWarn;
  for (const Given& given : args.options) {
    if (given.id >= kLogError && given.id <= kLogTrace) level = static_cast<LogLevel>(given.id - kLogError);
  }
  log_setup("msb", level);
}

int run(std::span<const std::string_view> words) {
  // Global switches may stand before the verb.
  std::vector<std::string_view> rest;
  std::string_view name;
  for (std::size_t i = 0; i < words.size(); ++i) {
    if (words[i] == "--json-errors") set_json_errors(true);
    if (!words[i].starts_with("-") && name.empty()) {
      name = words[i];
      rest.insert(rest.end(), words.begin() + static_cast<std::ptrdiff_t>(i) + 1, words.end());
      break;
    }
    rest.push_back(words[i]);
  }
  const std::array<std::span<const Option>, 1> global = {global_options()};
  if (name.empty()) {
    const auto args = parse_args(rest, global, Words::kOptionsAnywhere);
    if (!args.ok()) return report(usage_error(args.error().text), kExitUsage, "");
    if (args->has(kVersion)) {
      print("msb " MSB_VERSION "\n");
    } else if (args->has(kTree)) {
      print(command_tree(nullptr));
    } else {
      print(main_help());
    }
    return kExitOk;
  }
  const Verb* verb = find_verb(name);
  if (name == "help") {
    const Verb* about = rest.empty() ? nullptr : find_verb(rest.front());
    if (about == nullptr && !rest.empty()) return unknown_verb(rest.front());
    print(about == nullptr ? main_help() : verb_help(*about));
    return kExitOk;
  }
  if (verb == nullptr) return unknown_verb(name);

  Parsed args;
  if (!verb->sub.empty()) {
    // Another program's words: only help is ours.
    if (!rest.empty() && (rest.front() == "--help" || rest.front() == "-h"))
      args.options.push_back({kHelp, "help", {}});
    if (!rest.empty() && rest.front() == "--tree") args.options.push_back({kTree, "tree", {}});
    args.positionals = {verb->name};
    args.command = rest;
  } else {
    std::vector<std::span<const Option>> tables(verb->tables.begin(), verb->tables.end());
    tables.push_back(global_options());
    auto parsed = parse_args(rest, tables, verb->words);
    if (!parsed.ok()) {
      // Help and the tree work whatever else is wrong.
      for (const std::string_view word : rest) {
        if (word == "--") break;
        if (word == "--help" || word == "-h") args.options.push_back({kHelp, "help", {}});
      }
      if (args.options.empty()) return report(usage_error(parsed.error().text), kExitUsage, verb->name);
    } else {
      args = std::move(parsed).value();
    }
  }
  if (args.has(kHelp)) {
    print(verb_help(*verb));
    return kExitOk;
  }
  if (args.has(kTree)) {
    print(command_tree(verb));
    return kExitOk;
  }
  if (args.has(kVersion)) {
    print("msb " MSB_VERSION "\n");
    return kExitOk;
  }
  if (args.has(kJsonErrors)) set_json_errors(true);
  apply_log_level(args);
  const auto code = verb->run(args);
  return code.ok() ? *code : report(code.error(), verb->own_failure, verb->name);
}

}  // namespace
}  // namespace msb::cli

int main(int argc, char** argv) {
  const std::vector<std::string_view> words(argv + (argc > 0 ? 1 : 0), argv + argc);
  return msb::cli::run(words);
}
