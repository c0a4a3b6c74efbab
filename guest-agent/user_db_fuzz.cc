// SPDX-License-Identifier: Apache-2.0
// passwd and group files of a hostile image, and user specifications of a client.
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "guest-agent/guest_info.h"
#include "guest-agent/user_db.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  // Three texts, separated by the first two NUL bytes.
  std::string_view rest(reinterpret_cast<const char*>(data), size);
  std::string_view parts[3];
  for (std::string_view& part : parts) {
    const std::size_t end = rest.find('\0');
    part = rest.substr(0, end);
    rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
  }
  const auto identity = msb::agent::resolve_user(parts[0], parts[1], parts[2], {"wheel"});
  if (identity.ok()) {
    MSB_CHECK(identity->uid != UINT32_MAX && identity->gid != UINT32_MAX);
    MSB_CHECK(identity->groups.size() <= msb::agent::kMaxGroups);
  }
  (void)msb::agent::resolve_owner(parts[0], parts[1], parts[2]);
  (void)msb::agent::parse_busy_ticks(parts[0]);
  (void)msb::agent::parse_interface_bytes(parts[0], parts[2]);
  (void)msb::agent::parse_meminfo(parts[0], parts[2]);
  return 0;
}
