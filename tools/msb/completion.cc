// SPDX-License-Identifier: Apache-2.0
// msb completion: scripts for bash, zsh and fish. They ask `msb completion words` for candidates, which knows
// the verbs' tables and the names of sandboxes and images; so they never go stale.
#include <array>

#include "base/file.h"
#include "base/json.h"
#include "tools/msb/verbs.h"

#include <dirent.h>

namespace msb::cli {
namespace {

const std::array<std::span<const Option>, 0> kTables = {};

// bash divides words at ':' and '=' too and replaces only what follows the last of them; references hold
// both.
constexpr std::string_view kBash = R"sh(_msb() {
  local line=${COMP_LINE:0:COMP_POINT} word
  local -a given found
  read -ra given <<<"$line"
  [[ $line == *[[:blank:]] ]] && given+=("")
  local current=${given[-1]}
  local kept=${current%"${current##*[:=]}"}
  mapfile -t found < <(msb completion words "${given[@]:1}" 2>/dev/null)
  COMPREPLY=()
  for word in "${found[@]}"; do
    [[ $word == "$current"* ]] && COMPREPLY+=("${word#"$kept"}")
  done
}
complete -o default -F _msb msb
)sh";
constexpr std::string_view kZsh = R"sh(#compdef msb
_msb() {
  local -a words_found
  words_found=("${(@f)$(msb completion words "${(@)words[2,CURRENT]}" 2>/dev/null)}")
  compadd -- $words_found || _files
}
compdef _msb msb
)sh";
// Files only where nothing of ours fits, as the other two do.
constexpr std::string_view kFish = R"sh(function __msb_words
  set -l before (commandline -opc)
  set -l current (commandline -ct)
  set -l found (msb completion words $before[2..-1] "$current" 2>/dev/null)
  if string match -q -- "$current*" $found
    printf '%s\n' $found
  else
    __fish_complete_path "$current"
  end
end
complete -c msb -f -a '(__msb_words)'
)sh";

// The references in the image store, as people write them.
void put_images(const supervisor::Home& home, std::string& out) {
  const std::string directory = home.path() + "/images/refs";
  DIR* dir = ::opendir(directory.c_str());
  if (dir == nullptr) return;
  while (const dirent* entry = ::readdir(dir)) {
    const std::string name(&entry->d_name[0]);
    if (!name.ends_with(".json")) continue;
    const auto text = read_file(directory + "/" + name, 65536);
    if (!text.ok()) continue;
    const auto document = JsonDocument::parse(*text);
    if (!document.ok()) continue;
    auto reference = document->root().get_string("reference");
    if (!reference.ok()) continue;
    for (const std::string_view prefix : {"docker.io/library/", "docker.io/"}) {
      if (reference->starts_with(prefix)) {
        reference->erase(0, prefix.size());
        break;
      }
    }
    if (reference->ends_with(":latest")) reference->resize(reference->size() - 7);
    out += *reference + "\n";
  }
  ::closedir(dir);
}

void put_blank_separated(std::string_view words, std::string& out) {
  while (!words.empty()) {
    const auto blank = words.find(' ');
    if (blank != 0) out += std::string(words.substr(0, blank)) + "\n";
    words = blank == std::string_view::npos ? std::string_view{} : words.substr(blank + 1);
  }
}

// Candidates for the last of `words`, which may be empty.
Result<int> candidates(const std::vector<std::string_view>& words) {
  std::string out;
  const std::string_view current = words.empty() ? std::string_view{} : words.back();
  if (words.size() <= 1) {
    for (const Verb* verb : all_verbs()) {
      if (verb->group != Group::kHidden) out += std::string(verb->name) + "\n";
    }
    print(out);
    return kExitOk;
  }
  const Verb* verb = find_verb(words.front());
  if (verb == nullptr) return kExitOk;
  if (current.starts_with("-")) {
    for (const auto table : verb->tables) {
      for (const Option& option : table) {
        if (!option.help.empty()) out += "--" + std::string(option.name) + "\n";
      }
    }
    for (const Option& option : global_options()) out += "--" + std::string(option.name) + "\n";
    print(out);
    return kExitOk;
  }
  MSB_ASSIGN(const supervisor::Home home, supervisor::Home::open());
  if (words.size() == 2 && !verb->sub.empty()) put_blank_separated(verb->sub, out);
  if (verb->group == Group::kImages || verb == &kRunVerb || verb == &kCreateVerb) {
    put_images(home, out);
  } else if (verb->group == Group::kSandboxes && verb != &kListVerb) {
    MSB_ASSIGN(const auto names, home.names());
    for (const std::string& name : names) out += name + "\n";
  } else if (verb == &kCompletionVerb) {
    out += "bash\nzsh\nfish\n";
  }
  print(out);
  return kExitOk;
}

Result<int> completion(const Parsed& args) {
  if (args.positionals.empty()) return usage_error("which shell? bash, zsh or fish");
  const std::string_view what = args.positionals.front();
  if (what == "words") return candidates(args.command);
  if (what == "bash") {
    print(kBash);
  } else if (what == "zsh") {
    print(kZsh);
  } else if (what == "fish") {
    print(kFish);
  } else {
    return usage_error("\"" + std::string(what) + "\" is none of bash, zsh, fish");
  }
  return kExitOk;
}

}  // namespace

const Verb kCompletionVerb = {"completion",
                              "",
                              Group::kOther,
                              "Print a completion script for a shell",
                              "bash|zsh|fish",
                              "Examples:\n"
                              "  source <(msb completion bash)\n"
                              "  msb completion fish > ~/.config/fish/completions/msb.fish",
                              kTables,
                              Words::kCommandLast,
                              kExitFailure,
                              completion,
                              ""};

}  // namespace msb::cli
