// SPDX-License-Identifier: Apache-2.0
#include "guest-agent/guest_info.h"

#include <sys/sysinfo.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <charconv>

#include "base/file.h"

namespace msb::agent {
namespace {

constexpr std::size_t kMaxProcFile = std::size_t{256} << 10;

// Takes the next blank-separated word off the front; empty at the end.
std::string_view next_word(std::string_view& text) {
  const std::size_t start = text.find_first_not_of(" \t");
  if (start == std::string_view::npos) {
    text = {};
    return {};
  }
  text.remove_prefix(start);
  const std::size_t end = std::min(text.find_first_of(" \t\n"), text.size());
  const std::string_view word = text.substr(0, end);
  text.remove_prefix(end);
  return word;
}

std::uint64_t number(std::string_view text) {
  std::uint64_t value = 0;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

}  // namespace

std::uint64_t parse_busy_ticks(std::string_view proc_stat) {
  if (!proc_stat.starts_with("cpu ")) return 0;
  std::string_view line = proc_stat.substr(4, proc_stat.find('\n') - 4);
  // user nice system idle iowait irq softirq steal (guest time is part of user)
  std::uint64_t busy = 0;
  for (int field = 0; field < 7; ++field) {
    const std::uint64_t ticks = number(next_word(line));
    if (field != 3 && field != 4) busy += ticks;
  }
  return busy;
}

std::uint64_t parse_interface_bytes(std::string_view proc_net_dev, std::string_view interface) {
  while (!proc_net_dev.empty()) {
    const std::size_t end = std::min(proc_net_dev.find('\n'), proc_net_dev.size());
    std::string_view line = proc_net_dev.substr(0, end);
    proc_net_dev.remove_prefix(std::min(end + 1, proc_net_dev.size()));
    const std::size_t colon = line.find(':');
    if (colon == std::string_view::npos) continue;
    std::string_view name = line.substr(0, colon);
    if (next_word(name) != interface) continue;
    line.remove_prefix(colon + 1);
    std::uint64_t total = 0;
    for (int field = 0; field < 9; ++field) {
      const std::uint64_t value = number(next_word(line));
      if (field == 0 || field == 8) total += value;  // received and sent bytes
    }
    return total;
  }
  return 0;
}

std::uint64_t parse_meminfo(std::string_view meminfo, std::string_view key) {
  while (!meminfo.empty()) {
    const std::size_t end = std::min(meminfo.find('\n'), meminfo.size());
    std::string_view line = meminfo.substr(0, end);
    meminfo.remove_prefix(std::min(end + 1, meminfo.size()));
    if (!line.starts_with(key) || line.size() <= key.size() || line[key.size()] != ':') continue;
    line.remove_prefix(key.size() + 1);
    return number(next_word(line)) * 1024;
  }
  return 0;
}

proto::GuestInfo read_guest_info(std::string_view interface) {
  proto::GuestInfo info;
  timespec up{};
  ::clock_gettime(CLOCK_BOOTTIME, &up);
  info.uptime_ns =
      static_cast<std::uint64_t>(up.tv_sec) * 1'000'000'000 + static_cast<std::uint64_t>(up.tv_nsec);
  const auto ticks_per_second = static_cast<std::uint64_t>(::sysconf(_SC_CLK_TCK));
  const std::string stat = read_file("/proc/stat", kMaxProcFile).value_or(std::string());
  info.cpu_busy_ns = parse_busy_ticks(stat) * (1'000'000'000 / ticks_per_second);
  struct sysinfo system {};
  if (::sysinfo(&system) == 0) {
    info.load_milli = system.loads[0] * 1000 >> SI_LOAD_SHIFT;
    info.processes = system.procs;
  }
  const std::string memory = read_file("/proc/meminfo", kMaxProcFile).value_or(std::string());
  info.memory_total = parse_meminfo(memory, "MemTotal");
  info.memory_available = parse_meminfo(memory, "MemAvailable");
  if (!interface.empty()) {
    const std::string devices = read_file("/proc/net/dev", kMaxProcFile).value_or(std::string());
    info.net_bytes = parse_interface_bytes(devices, interface);
  }
  return info;
}

}  // namespace msb::agent
