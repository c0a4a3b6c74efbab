// SPDX-License-Identifier: Apache-2.0
// A complete program that embeds msb: makes a sandbox, runs commands in it, streams one, copies a file,
// removes it. Usage: example IMAGE
#include <cstdio>
#include <string>

#include "supervisor/supervisor.h"

namespace {

using namespace msb;              // NOLINT: an example reads better without prefixes
using namespace msb::supervisor;  // NOLINT

Status run(const std::string& image) {
  MSB_ASSIGN(const Home home, Home::open());

  SandboxSpec spec;
  spec.image = image;
  spec.memory_mib = 1024;
  spec.env = {"GREETING=hello"};

  // Attached: it stops when this program ends, however it ends.
  CreateOptions options;
  options.start.lifetime = Lifetime::kAttached;
  MSB_ASSIGN(Sandbox sandbox, Sandbox::create(home, spec, options));
  std::printf("sandbox %s runs\n", sandbox.name().c_str());

  // Collected.
  const ExecSpec greet{.argv = {"sh", "-c", "echo $GREETING; cat; exit 3"}};
  MSB_ASSIGN(const ExecResult result,
             sandbox.run(greet, "from the host\n", deadline_after(std::chrono::seconds(30))));
  std::printf("code %d, output: %s", result.exit.shell_code(), result.out.c_str());

  // Streamed. In an event loop: poll session.fd() for session.wanted_events(), then call next_event until
  // nullopt.
  MSB_ASSIGN(ExecSession session, sandbox.exec({.argv = {"sh", "-c", "for i in 1 2 3; do echo $i; done"}}));
  while (!session.ended()) {
    MSB_ASSIGN(const ExecEvent event, session.wait_event(deadline_after(std::chrono::seconds(30))));
    if (event.kind == ExecEvent::Kind::kStdout) std::fwrite(event.data.data(), 1, event.data.size(), stdout);
  }
  return sandbox.remove(true);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: example IMAGE\n");
    return 2;
  }
  const Status status = run(argv[1]);
  if (status.ok()) return 0;
  std::fprintf(stderr, "error (%s): %s\n", std::string(errc_name(status.error().code)).c_str(),
               status.error().text.c_str());
  return 1;
}
