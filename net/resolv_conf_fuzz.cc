// SPDX-License-Identifier: Apache-2.0
// The host's resolver configuration: any text gives at most eight name servers.
#include <cstdlib>

#include "net/dns_proxy.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto upstreams = msb::net::parse_resolv_conf(msb::as_text({data, size}));
  if (upstreams.size() > 8) std::abort();
  return 0;
}
