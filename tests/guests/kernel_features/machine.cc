// SPDX-License-Identifier: Apache-2.0
//
// The machine's own devices and limits: virtio drivers, memory and CPU hot add, entropy, terminals.

#include "check.h"

#include <fcntl.h>
#include <linux/rtnetlink.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include <array>
#include <string>

namespace features {
namespace {

std::string virtio_drivers() {
  std::string missing;
  for (const char* name : {"virtio_blk", "virtio_net", "virtio_rng", "virtio_balloon", "virtio_mem",
                           "virtio_console", "virtiofs", "vmw_vsock_virtio_transport"})
    if (!exists((std::string("/sys/bus/virtio/drivers/") + name).c_str())) missing += std::string(" ") + name;
  if (!missing.empty()) return "no driver for" + missing;
  return exists("/sys/bus/platform/drivers/virtio-mmio") ? "" : "no virtio-mmio transport";
}

std::string memory_hotplug() {
  if (read_file("/sys/devices/system/memory/block_size_bytes").empty()) return "no memory blocks in /sys";
  const std::string online = read_file("/sys/devices/system/memory/auto_online_blocks");
  return online == "online\n" ? "" : "auto_online_blocks is " + online;
}

std::string free_page_reporting() {
  return exists("/sys/module/page_reporting/parameters/page_reporting_order")
             ? ""
             : "no page_reporting parameters";
}

std::string cpu_hotplug() {
  const std::string limit = read_file("/sys/devices/system/cpu/kernel_max");
  return limit == "63\n" ? "" : "kernel_max is " + limit;
}

std::string entropy_now() {
  std::array<unsigned char, 16> bytes{};
  return getrandom(bytes.data(), bytes.size(), GRND_NONBLOCK) == static_cast<ssize_t>(bytes.size())
             ? ""
             : failed("getrandom without waiting");
}

std::string pseudo_terminals() {
  const int fd = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
  if (fd < 0) return failed("posix_openpt");
  if (unlockpt(fd) < 0) return failed("unlockpt");
  winsize size{24, 80, 0, 0};
  return want_ok(ioctl(fd, TIOCSWINSZ, &size), "TIOCSWINSZ");
}

std::string panic_settings() {
  if (read_file("/proc/sys/kernel/panic") != "-1\n") return "kernel.panic is not -1";
  return read_file("/proc/sys/kernel/panic_on_oops") == "1\n" ? "" : "an oops does not panic";
}

constexpr std::array<Check, 7> kChecks{{
    {"virtio_drivers", virtio_drivers},
    {"memory_hotplug", memory_hotplug},
    {"free_page_reporting", free_page_reporting},
    {"cpu_limit_64", cpu_hotplug},
    {"entropy_at_boot", entropy_now},
    {"pseudo_terminals", pseudo_terminals},
    {"panic_resets", panic_settings},
}};

}  // namespace

std::span<const Check> machine_checks() { return kChecks; }

}  // namespace features
