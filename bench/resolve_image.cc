// SPDX-License-Identifier: Apache-2.0
// resolve_image HOME IMAGE: what it takes from an image's name to the extent table that the machine role
// holds, once, in this process: everything that a start does on that way and nothing else of it. Prints one
// JSON object, in nanoseconds. A process each time, as a start is one: what is cold in a start is cold here.
//
//   resolve  msb: the store's lock, the name, the image's description, read for the record and again to boot
//   spec     msb: the VmSpec document with the extents, written to its descriptor
//   open     msb-vmm: the document parsed, every file of the machine opened and measured, the root's among
//   them hand     msb-vmm to its machine role: the descriptors and the table, sent and received
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdio>
#include <string>

#include "base/clock.h"
#include "base/file.h"
#include "base/socket.h"
#include "proto/vm_spec.h"
#include "supervisor/image_store.h"
#include "supervisor/vm_spec_builder.h"
#include "vmm/machine_link.h"
#include "vmm/sandbox_files.h"

namespace msb {
namespace {

struct Times {
  std::int64_t resolve = 0, spec = 0, open = 0, hand = 0;
  std::size_t extents = 0;
};

Result<Times> measure(const std::string& home_path, const std::string& reference,
                      const std::string& directory) {
  const SteadyClock clock;
  Times times;
  Instant last = clock.now();
  const auto lap = [&] {
    const Instant now = clock.now();
    const std::int64_t passed = (now - last).count();
    last = clock.now();
    return passed;
  };
  MSB_ASSIGN(const supervisor::Home home, supervisor::Home::open(home_path));
  MSB_ASSIGN(const supervisor::Installation installation, supervisor::Installation::found());
  supervisor::SandboxRecord record;
  record.spec.name = "bench";
  record.spec.image = reference;
  record.spec.network.enabled = false;
  record.spec.root_disk.kind = supervisor::RootDisk::Kind::kTmpfs;

  (void)lap();
  MSB_ASSIGN(UniqueFd held, supervisor::hold_images(home));
  MSB_ASSIGN(const auto named, supervisor::find_image(home, reference));
  if (!named) return make_error(Errc::kNotFound, "the store has no image %s", reference.c_str());
  held.reset();
  MSB_ASSIGN(const supervisor::StoredImage image, supervisor::load_image(home, named->file));
  times.resolve = lap();

  supervisor::LaunchInput input;
  input.name = record.spec.name;
  input.directory = directory;
  input.record = &record;
  input.image = &image;
  input.installation = &installation;
  input.ready_fd = 4;
  const UniqueFd document(::memfd_create("spec", MFD_CLOEXEC));
  MSB_TRY(write_all(document.get(), supervisor::vm_spec_json(input)));
  if (::lseek(document.get(), 0, SEEK_SET) != 0) return sys_error("rewind the specification");
  times.spec = lap();

  vmm::SandboxFiles files;
  MSB_ASSIGN(files.logs, open_file(directory, O_RDONLY | O_DIRECTORY));
  MSB_ASSIGN(files.run, open_file(directory, O_RDONLY | O_DIRECTORY));
  (void)lap();
  MSB_ASSIGN(const std::string text, read_all(document.get(), std::size_t{16} << 20));
  MSB_ASSIGN(const proto::VmSpec spec, proto::VmSpec::parse(text));
  MSB_ASSIGN(const vmm::MachineSpec machine, vmm::open_machine_files(spec, files));
  times.open = lap();

  MSB_ASSIGN(auto link, socket_pair(SOCK_SEQPACKET));
  (void)lap();
  MSB_TRY(vmm::send_start(link.first.get(), machine, false));
  MSB_ASSIGN(const vmm::StartMessage start, vmm::receive_start(link.second.get()));
  times.hand = lap();
  times.extents = start.spec.disks.front().extents.size();
  return times;
}

int run(const char* home, const char* reference) {
  std::string directory = "/tmp/msb-resolve-XXXXXX";
  if (::mkdtemp(directory.data()) == nullptr) return 1;
  const auto times = measure(home, reference, directory);
  if (auto parent = open_file("/tmp", O_RDONLY | O_DIRECTORY))
    (void)remove_tree(parent->get(), directory.substr(5)).ok();
  if (!times) {
    std::fprintf(stderr, "resolve_image: %s\n", times.error().text.c_str());
    return 1;
  }
  std::printf("{\"resolve\":%lld,\"spec\":%lld,\"open\":%lld,\"hand\":%lld,\"extents\":%zu}\n",
              static_cast<long long>(times->resolve), static_cast<long long>(times->spec),
              static_cast<long long>(times->open), static_cast<long long>(times->hand), times->extents);
  return 0;
}

}  // namespace
}  // namespace msb

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: resolve_image HOME IMAGE\n");
    return 2;
  }
  return msb::run(argv[1], argv[2]);
}
