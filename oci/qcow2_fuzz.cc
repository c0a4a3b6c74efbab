// SPDX-License-Identifier: Apache-2.0
// qcow2 images from anywhere: a refusal, or a disk whose pieces go forward and stay within its size.
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>

#include "base/check.h"
#include "base/file.h"
#include "base/unique_fd.h"
#include "oci/qcow2.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const msb::UniqueFd file(::memfd_create("disk", MFD_CLOEXEC));
  MSB_CHECK(::ftruncate(file.get(), 0) == 0 && msb::pwrite_exact(file.get(), {data, size}, 0).ok());
  msb::oci::Limits limits;
  limits.max_image_bytes = 1U << 24;
  const auto disk = msb::oci::open_qcow2(file.get(), limits);
  if (!disk.ok()) return 0;
  MSB_CHECK((*disk)->size() <= limits.max_image_bytes);
  std::uint64_t end = 0;
  (void)(*disk)
      ->read([&](std::uint64_t offset, msb::ByteView piece) {
        MSB_CHECK(offset >= end && offset <= (*disk)->size() && piece.size() <= (*disk)->size() - offset);
        end = offset + piece.size();
        return msb::Status{};
      })
      .ok();
  return 0;
}
