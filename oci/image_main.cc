// SPDX-License-Identifier: Apache-2.0
// msb-image: images from registries and archives into the store, and all that is done with them there.
#include <array>
#include <csignal>
#include <cstdio>
#include <string_view>

#include "base/log.h"
#include "oci/commands.h"

namespace {

using msb::Status;
using msb::oci::Arguments;

struct Command {
  std::string_view name;
  std::string_view summary;
  Status (*run)(const Arguments&);
};
constexpr std::array kCommands = {
    Command{"load", "take in images from a docker-archive or an OCI layout", msb::oci::load_command},
    Command{"mkfs-upper", "make an empty ext4 for a sandbox's writes", msb::oci::mkfs_upper_command},
};

// Exit codes: 0, 1 for what failed, 2 for a wrong command line.
constexpr int kFailed = 1;
constexpr int kUsage = 2;

void print_usage(std::FILE* out) {
  std::fprintf(out, "usage: msb-image COMMAND ...\n\ncommands:\n");
  for (const Command& command : kCommands) {
    if (command.summary.empty()) continue;  // plumbing
    std::fprintf(out, "  %-12s %s\n", command.name.data(), command.summary.data());
  }
}

}  // namespace

int main(int argc, char** argv) {
  msb::log_setup("msb-image", msb::LogLevel::kWarn);
  std::signal(SIGPIPE, SIG_IGN);
  const std::string_view name = argc > 1 ? argv[1] : "";
  if (name == "--help" || name == "-h" || name == "help") {
    print_usage(stdout);
    return 0;
  }
  for (const Command& command : kCommands) {
    if (command.name != name) continue;
    const Status status = command.run(Arguments(argv + 2, argv + argc));
    if (status.ok() || status.error().code == msb::Errc::kCancelled) return 0;
    std::fprintf(stderr, "msb-image: %s\n", status.error().text.c_str());
    return status.error().code == msb::Errc::kInvalid ? kUsage : kFailed;
  }
  print_usage(stderr);
  return kUsage;
}
