// SPDX-License-Identifier: Apache-2.0
#include "vmm/boot/cmdline.h"

#include <algorithm>
#include <cstdio>

#include "vmm/boot/kernel_words.h"
#include "vmm/memory_map.h"

namespace msb::vmm {
namespace {

// Behind the kernel's own words (kernel-config/cmdline.txt, which say why), so that they win:
//   reboot=k  a restart goes through the port that ports.h watches; a triple fault stays an accident
constexpr std::string_view kOwnWords = " reboot=k";

}  // namespace

Result<std::string> build_cmdline(const CmdlineRequest& request) {
  const bool printable =
      std::all_of(request.extra.begin(), request.extra.end(), [](char c) { return c >= 0x20 && c < 0x7f; });
  if (!printable) return make_error(Errc::kInvalid, "cmdline_extra: only printable ASCII is allowed");
  if (request.extra.find("virtio_mmio.") != std::string_view::npos) {
    return make_error(Errc::kInvalid, "cmdline_extra: the machine's devices cannot be changed there");
  }
  std::string line(kKernelWords);
  line += kOwnWords;
  for (std::uint32_t n = 0; n < request.virtio_devices; ++n) {
    const std::uint64_t base = kVirtioMmioBase + n * kVirtioMmioStride;
    char word[80];
    std::snprintf(word, sizeof word, " virtio_mmio.device=%llu@0x%llx:%u",
                  static_cast<unsigned long long>(kVirtioMmioSize), static_cast<unsigned long long>(base),
                  kFirstVirtioPin + n);
    line += word;
  }
  if (request.cpus_online < request.cpus_max) line += " maxcpus=" + std::to_string(request.cpus_online);
  if (!request.extra.empty()) {
    line += ' ';
    line += request.extra;
  }
  if (line.size() > kMaxCmdline) {
    return make_error(Errc::kLimit, "the kernel command line has %zu bytes; at most %zu are possible",
                      line.size(), kMaxCmdline);
  }
  return line;
}

}  // namespace msb::vmm
