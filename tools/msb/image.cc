// SPDX-License-Identifier: Apache-2.0
// msb image, pull, load, save, registry: handed to msb-image with the same words, so that nothing of
// registries is loaded by the other verbs.
#include <unistd.h>

#include <array>
#include <cerrno>

#include "tools/msb/verbs.h"

namespace msb::cli {
namespace {

// Replaces this program; returns only when that fails.
Result<int> become(const char* program, const std::vector<std::string>& words) {
  MSB_ASSIGN(const supervisor::Installation installation, supervisor::Installation::found());
  const std::string path = installation.libexec + "/" + program;
  std::vector<std::string> arguments = {program};
  arguments.insert(arguments.end(), words.begin(), words.end());
  std::vector<char*> argv;
  for (std::string& word : arguments) argv.push_back(word.data());
  argv.push_back(nullptr);
  ::execv(path.c_str(), argv.data());
  return sys_error("start " + path);
}

std::vector<std::string> words_of(const Parsed& args) { return {args.command.begin(), args.command.end()}; }

Result<int> image(const Parsed& args) {
  std::vector<std::string> words = words_of(args);
  if (words.empty()) {
    print(verb_help(kImageVerb));
    return kExitOk;
  }
  if (words.front() == "list") words.front() = "ls";
  if (words.front() == "remove") words.front() = "rm";
  constexpr std::array<std::string_view, 9> kKnown = {"ls",   "inspect", "rm",  "prune", "pull",
                                                      "load", "save",    "tag", "verify"};
  for (const std::string_view known : kKnown) {
    if (words.front() == known) return become("msb-image", words);
  }
  std::string text = "unknown command \"image " + words.front() + "\"";
  if (const auto near = nearest(words.front(), kKnown); !near.empty())
    text += "; did you mean \"" + std::string(near) + "\"?";
  return usage_error(std::move(text));
}

// `msb pull X` is `msb-image pull X`.
Result<int> same_word(const Parsed& args) {
  std::vector<std::string> words = words_of(args);
  words.insert(words.begin(), std::string(args.positionals.front()));
  return become("msb-image", words);
}

Result<int> registry(const Parsed& args) {
  std::vector<std::string> words = words_of(args);
  if (words.empty()) {
    print(verb_help(kRegistryVerb));
    return kExitOk;
  }
  if (words.front() == "ls" || words.front() == "list") words.front() = "registries";
  if (words.front() != "login" && words.front() != "logout" && words.front() != "registries") {
    return usage_error("unknown command \"registry " + words.front() + "\" (login, logout, ls)");
  }
  return become("msb-image", words);
}

}  // namespace

const Verb kImageVerb = {"image",
                         "images",
                         Group::kImages,
                         "Manage images",
                         "COMMAND ...",
                         "Commands:\n"
                         "  ls                      list images\n"
                         "  inspect IMAGE           show one\n"
                         "  rm IMAGE...             remove\n"
                         "  prune                   remove what nothing uses\n"
                         "  pull IMAGE              fetch\n"
                         "  load [-i PATH]          read an archive, a root file system or a disk image\n"
                         "  save IMAGE... [-o FILE] write an archive\n"
                         "  tag IMAGE NAME          give it another name",
                         {},
                         Words::kCommandLast,
                         kExitFailure,
                         image,
                         "ls inspect rm prune pull load save tag"};
const Verb kPullVerb = {"pull",
                        "",
                        Group::kImages,
                        "Fetch an image",
                        "[OPTIONS] IMAGE",
                        "Examples:\n  msb pull debian:12",
                        {},
                        Words::kCommandLast,
                        kExitFailure,
                        same_word,
                        " "};
const Verb kLoadVerb = {"load",
                        "",
                        Group::kImages,
                        "Read images from an archive, a directory or a disk image",
                        "[-i PATH] [-t NAME | --rootfs NAME | --disk NAME]",
                        "Examples:\n"
                        "  docker save app | msb load\n"
                        "  msb load --rootfs app -i ./tree     # a root file system\n"
                        "  msb load --disk app -i disk.qcow2   # ext4 or squashfs",
                        {},
                        Words::kCommandLast,
                        kExitFailure,
                        same_word,
                        " "};
const Verb kSaveVerb = {"save",
                        "",
                        Group::kImages,
                        "Write images to an archive",
                        "[-o FILE] IMAGE...",
                        "Examples:\n  msb save -o app.tar app:1",
                        {},
                        Words::kCommandLast,
                        kExitFailure,
                        same_word,
                        " "};
const Verb kRegistryVerb = {"registry",
                            "",
                            Group::kImages,
                            "Credentials for registries",
                            "login|logout|ls ...",
                            "Examples:\n  msb registry login ghcr.io -u me --password-stdin < token",
                            {},
                            Words::kCommandLast,
                            kExitFailure,
                            registry,
                            "login logout ls"};
}  // namespace msb::cli
