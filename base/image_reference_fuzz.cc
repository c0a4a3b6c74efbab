// SPDX-License-Identifier: Apache-2.0
// Any text: whatever is accepted must have a canonical form that parses to the same value again.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/bytes.h"
#include "base/check.h"
#include "base/image_reference.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto parsed = msb::parse_image_reference(msb::as_text({data, size}));
  if (!parsed.ok()) return 0;
  const auto again = msb::parse_image_reference(parsed->canonical());
  MSB_CHECK(again.ok() && *again == *parsed);
  const auto shortened = msb::parse_image_reference(parsed->familiar());
  MSB_CHECK(shortened.ok() && shortened->canonical() == parsed->canonical());
  return 0;
}
