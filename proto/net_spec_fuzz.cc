// SPDX-License-Identifier: Apache-2.0
// A network configuration is refused or has what it promises; each rule's text is the rule again.
#include <cstdlib>

#include "proto/net_spec.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace msb::proto;  // NOLINT: a fuzz target is one function
  const std::string_view text = msb::as_text({data, size});
  (void)parse_net_port(text).ok();
  (void)parse_net_rules(text).ok();
  const auto spec = NetSpec::parse(text);
  if (!spec) return 0;
  for (const NetRule& rule : spec->policy.rules) {
    const auto again = parse_net_rule(rule.text);
    if (!again || again->target != rule.target || again->first_port != rule.first_port ||
        (rule.first_port && rule.last_port < *rule.first_port))
      std::abort();
  }
  for (const NetPortSpec& port : spec->ports) {
    if (port.guest == 0 || port.count == 0 || port.guest + port.count - 1 > 65535) std::abort();
  }
  return 0;
}
