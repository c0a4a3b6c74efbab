// SPDX-License-Identifier: Apache-2.0
// Any bytes: parse, then what parsed must print and parse again to the same text.
#include <cstdlib>

#include "base/json.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto document = msb::JsonDocument::parse(msb::as_text({data, size}));
  if (!document.ok()) return 0;
  const std::string once = document->root().dump();
  const auto again = msb::JsonDocument::parse(once, {.max_bytes = std::size_t{16} << 20});
  if (!again.ok() || again->root().dump() != once) std::abort();
  return 0;
}
