// SPDX-License-Identifier: Apache-2.0
// A guest that does what it likes with a block device. First byte: kind of disk; the rest is the guest.
#include "devices/virtio/blk.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"
#include "devices/virtio/testing/fuzz_guest.h"

namespace {
using namespace msb;
constexpr std::size_t kDiskBytes = 64 * 1024;

UniqueFd disk() {
  UniqueFd fd(::memfd_create("disk", MFD_CLOEXEC));
  MSB_CHECK(fd && ::ftruncate(fd.get(), kDiskBytes) == 0);
  return fd;
}

// Bytes behind the extents, which no request may ever reach.
constexpr std::size_t kGuarded = 4096;

std::unique_ptr<devices::BlockBackend> extents() {
  const auto file = std::make_shared<UniqueFd>(disk());
  const std::vector<std::uint8_t> secret(kGuarded, 0xa5);
  MSB_CHECK(::pwrite(file->get(), secret.data(), secret.size(), kDiskBytes - kGuarded) > 0);
  auto made = devices::make_extent_backend(
      {{file, 8192, 4096}, {file, 512, 512}, {file, 16384, kDiskBytes - 16384 - kGuarded}});
  MSB_CHECK(made.ok());
  return std::move(made).value();
}
}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  auto loop = EventLoop::create();
  MSB_CHECK(loop.ok());
  UniqueFd keep;
  std::unique_ptr<devices::BlockBackend> backend;
  if ((data[0] & 1) != 0) {
    backend = extents();
  } else {
    UniqueFd file = disk();
    keep = UniqueFd(::fcntl(file.get(), F_DUPFD_CLOEXEC, 0));
    auto raw =
        devices::make_raw_backend(std::move(file), (data[0] & 2) != 0 ? devices::DiskAccess::kReadOnly
                                                                      : devices::DiskAccess::kReadWrite);
    MSB_CHECK(raw.ok());
    backend = std::move(raw).value();
  }
  const std::size_t queues = 1 + (data[0] >> 2) % 3u;
  devices::Blk blk(**loop, std::vector<EventLoop*>(queues, loop->get()), std::move(backend),
                   {.id = "fuzz", .queue_size = 16});
  devices::testing::run_hostile_guest(blk, ByteView(data + 1, size - 1));
  struct stat info {};
  MSB_CHECK(!keep || (::fstat(keep.get(), &info) == 0 && info.st_size == kDiskBytes));
  return 0;
}
