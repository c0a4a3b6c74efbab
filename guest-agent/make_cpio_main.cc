// SPDX-License-Identifier: Apache-2.0
// Build-time: make_cpio AGENT OUTPUT packs the agent into the initial ramdisk.
#include <fcntl.h>

#include <cstdio>

#include "base/file.h"
#include "proto/cpio.h"

namespace {

msb::Status pack(const char* agent_path, const char* output) {
  constexpr std::size_t kMaxAgentBytes = std::size_t{16} << 20;
  MSB_ASSIGN(const std::string agent, msb::read_file(agent_path, kMaxAgentBytes));
  msb::proto::CpioWriter archive;
  for (const char* directory : {"dev", "proc", "msb", "lower", "upper", "newroot"})
    archive.add_directory(directory);
  // The kernel opens it for process 1 before anything is mounted.
  archive.add_char_device("dev/console", 0600, 5, 1);
  archive.add_file("init", 0755, msb::as_bytes(agent));
  const msb::Bytes bytes = std::move(archive).finish();
  MSB_ASSIGN(const msb::UniqueFd fd, msb::open_file(output, O_WRONLY | O_CREAT | O_TRUNC, 0644));
  return msb::write_all(fd.get(), msb::as_text(bytes));
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: make_cpio AGENT OUTPUT\n");
    return 2;
  }
  if (msb::Status status = pack(argv[1], argv[2]); !status.ok()) {
    std::fprintf(stderr, "make_cpio: %s\n", status.error().text.c_str());
    return 1;
  }
  return 0;
}
