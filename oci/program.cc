// SPDX-License-Identifier: Apache-2.0
#include "oci/program.h"

#include <csignal>
#include <cstdio>

#include "base/log.h"

namespace msb::oci {
namespace {

constexpr int kFailed = 1;
constexpr int kUsage = 2;

void print_usage(const char* program, std::span<const Command> commands, std::FILE* out) {
  std::fprintf(out, "usage: %s COMMAND ...\n\ncommands:\n", program);
  for (const Command& command : commands) {
    if (command.summary.empty()) continue;
    std::fprintf(out, "  %-12s %s\n", command.name.data(), command.summary.data());
  }
}

}  // namespace

int run_program(const char* program, std::span<const Command> commands, int argc, char** argv) {
  log_setup(program, LogLevel::kWarn);
  std::signal(SIGPIPE, SIG_IGN);
  const std::string_view name = argc > 1 ? argv[1] : "";
  if (name == "--help" || name == "-h" || name == "help") {
    print_usage(program, commands, stdout);
    return 0;
  }
  for (const Command& command : commands) {
    if (command.name != name) continue;
    const Status status = command.run(Arguments(argv + 2, argv + argc));
    if (status.ok() || status.error().code == Errc::kCancelled) return 0;
    std::fprintf(stderr, "%s: %s\n", program, status.error().text.c_str());
    return status.error().code == Errc::kInvalid ? kUsage : kFailed;
  }
  print_usage(program, commands, stderr);
  return kUsage;
}

}  // namespace msb::oci
