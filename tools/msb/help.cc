// SPDX-License-Identifier: Apache-2.0
// Help texts, the command tree and suggestions, all from the verbs' tables.
#include <array>

#include "tools/msb/cli.h"

namespace msb::cli {
namespace {

constexpr std::array<Option, 9> kGlobal = {{
    {kHelp, "help", 'h', "", "Show help"},
    {kVersion, "version", 'V', "", "Show the version"},
    {kTree, "tree", 0, "", "Show all commands and options from here and end"},
    {kJsonErrors, "json-errors", 0, "", "Write errors as JSON objects, one a line"},
    {kLogError, "error", 0, "", "Log errors only"},
    {kLogWarn, "warn", 0, "", "Log warnings too"},
    {kLogInfo, "info", 0, "", "Log progress too"},
    {kLogDebug, "debug", 0, "", "Log what helps debugging"},
    {kLogTrace, "trace", 0, "", "Log everything"},
}};

struct GroupTitle {
  Group group;
  std::string_view title;
};
constexpr std::array<GroupTitle, 3> kGroups = {
    {{Group::kSandboxes, "Sandboxes"}, {Group::kImages, "Images"}, {Group::kOther, "Other"}}};

std::string option_column(const Option& option) {
  std::string out = option.letter != 0 ? std::string("-") + option.letter + ", " : std::string("    ");
  out += "--" + std::string(option.name);
  if (!option.value.empty()) out += " " + std::string(option.value);
  return out;
}

void put_options(std::string& out, std::span<const Option> options) {
  constexpr std::size_t kColumn = 32;
  for (const Option& option : options) {
    if (option.help.empty()) continue;
    std::string line = "  " + option_column(option);
    if (line.size() + 2 > kColumn) {
      out += line + "\n" + std::string(kColumn, ' ');
    } else {
      out += line + std::string(kColumn - line.size(), ' ');
    }
    out += std::string(option.help) + "\n";
  }
}

}  // namespace

std::span<const Option> global_options() { return kGlobal; }

const Verb* find_verb(std::string_view name) {
  for (const Verb* verb : all_verbs()) {
    if (verb->name == name) return verb;
    std::string_view aliases = verb->aliases;
    while (!aliases.empty()) {
      const auto blank = aliases.find(' ');
      if (aliases.substr(0, blank) == name) return verb;
      aliases = blank == std::string_view::npos ? std::string_view{} : aliases.substr(blank + 1);
    }
  }
  return nullptr;
}

std::string main_help() {
  std::string out = "msb " MSB_VERSION ": microVM sandboxes\n\nUsage: msb COMMAND [OPTIONS]\n";
  for (const GroupTitle& group : kGroups) {
    out += "\n" + std::string(group.title) + ":\n";
    for (const Verb* verb : all_verbs()) {
      if (verb->group != group.group) continue;
      std::string line = "  " + std::string(verb->name);
      line.append(line.size() < 14 ? 14 - line.size() : 1, ' ');
      out += line + std::string(verb->summary) + "\n";
    }
  }
  out +=
      "\nExamples:\n"
      "  msb run debian                        a shell in a fresh machine that is gone afterwards\n"
      "  msb run python:3 -- python -c 'print(1)'\n"
      "  msb run -d --name web -p 8080:80 nginx\n"
      "  msb exec web -- nginx -v\n"
      "\nmsb COMMAND --help tells more about each.\n";
  return out;
}

std::string verb_help(const Verb& verb) {
  std::string out = std::string(verb.summary) + "\n\nUsage: msb " + std::string(verb.name);
  if (!verb.usage.empty()) out += " " + std::string(verb.usage);
  out += "\n";
  if (!verb.aliases.empty()) out += "Also: " + std::string(verb.aliases) + "\n";
  if (!verb.details.empty()) out += "\n" + std::string(verb.details) + "\n";
  bool any = false;
  for (const auto table : verb.tables) {
    if (table.empty()) continue;
    if (!any) out += "\nOptions:\n";
    any = true;
    put_options(out, table);
  }
  out += "\nEverywhere:\n";
  put_options(out, global_options());
  return out;
}

std::string command_tree(const Verb* from) {
  std::string out = "msb " MSB_VERSION "\n";
  for (const Verb* verb : all_verbs()) {
    if ((from != nullptr && verb != from) || verb->group == Group::kHidden) continue;
    out += "├─ " + std::string(verb->name) + (verb->usage.empty() ? "" : " ") + std::string(verb->usage) +
           "  " + std::string(verb->summary) + "\n";
    for (const auto table : verb->tables) {
      for (const Option& option : table) {
        if (option.help.empty()) continue;
        out += "│    " + option_column(option) + "  " + std::string(option.help) + "\n";
      }
    }
  }
  return out;
}

}  // namespace msb::cli
