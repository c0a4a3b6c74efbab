// SPDX-License-Identifier: Apache-2.0
// What /proc says about the guest as a whole, for `info` and for deciding that it is idle.
#pragma once

#include <string_view>

#include "proto/agent.h"

namespace msb::agent {

// Reads /proc; counters of `interface` (none when empty). What cannot be read stays 0.
[[nodiscard]] proto::GuestInfo read_guest_info(std::string_view interface);

// The parsers, for tests.
[[nodiscard]] std::uint64_t parse_busy_ticks(std::string_view proc_stat);
[[nodiscard]] std::uint64_t parse_interface_bytes(std::string_view proc_net_dev, std::string_view interface);
// A "Key:   123 kB" line of /proc/meminfo, in bytes.
[[nodiscard]] std::uint64_t parse_meminfo(std::string_view meminfo, std::string_view key);

}  // namespace msb::agent
