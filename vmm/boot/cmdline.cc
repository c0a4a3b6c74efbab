// SPDX-License-Identifier: Apache-2.0
#include "vmm/boot/cmdline.h"

#include <algorithm>
#include <cstdio>

#include "vmm/memory_map.h"

namespace msb::vmm {
namespace {

// Why each word is there:
//   console=hvc0        kernel messages go to the virtio console
//   quiet loglevel=1    of those only emergencies: a console line costs exits; a panic raises the level
//   itself,
//                       and "Power off not available" is how a halted guest shows itself (guest_console.h)
//   reboot=k panic=-1   restart at once, by the port that reset_port.h watches; a triple fault stays an
//   accident tsc=reliable        no watchdog for the TSC, kvm-clock vouches for it no_timer_check      there
//   is no PIT whose interrupt could be tried random.trust_cpu=on entropy from RDRAND at boot; the agent adds
//   the host's rcupdate.rcu_expedited=1  grace periods of the boot do not wait for ticks (normal afterwards)
constexpr std::string_view kBaseWords =
    "console=hvc0 quiet loglevel=1 reboot=k panic=-1 tsc=reliable no_timer_check random.trust_cpu=on "
    "rcupdate.rcu_expedited=1 rcupdate.rcu_normal_after_boot=1";

}  // namespace

Result<std::string> build_cmdline(const CmdlineRequest& request) {
  const bool printable =
      std::all_of(request.extra.begin(), request.extra.end(), [](char c) { return c >= 0x20 && c < 0x7f; });
  if (!printable) return make_error(Errc::kInvalid, "cmdline_extra: only printable ASCII is allowed");
  if (request.extra.find("virtio_mmio.") != std::string_view::npos) {
    return make_error(Errc::kInvalid, "cmdline_extra: the machine's devices cannot be changed there");
  }
  std::string line(kBaseWords);
  for (std::uint32_t n = 0; n < request.virtio_devices; ++n) {
    char word[80];
    std::snprintf(word, sizeof word, " virtio_mmio.device=%llu@0x%llx:%u",
                  static_cast<unsigned long long>(kVirtioMmioSize),
                  static_cast<unsigned long long>(kVirtioMmioBase + n * kVirtioMmioStride),
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
