// SPDX-License-Identifier: Apache-2.0
// Any bytes: parse, then what parsed must print and parse again to the same text.
#include <algorithm>
#include <cstdlib>

#include "base/json.h"

namespace {

// Fractions are read to the last digit or nearly so, and nothing of ours uses them: printed again they may
// differ.
bool has_fraction(const msb::JsonView& value) {
  if (value.kind() == msb::JsonView::Kind::kNumber) return !value.as_int().ok() && !value.as_uint().ok();
  if (value.is_array()) {
    const auto elements = value.elements();
    return std::any_of(elements->begin(), elements->end(), has_fraction);
  }
  if (!value.is_object()) return false;
  const auto members = value.members();
  return std::any_of(members->begin(), members->end(),
                     [](const auto& member) { return has_fraction(member.second); });
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto document = msb::JsonDocument::parse(msb::as_text({data, size}));
  if (!document.ok()) return 0;
  const std::string once = document->root().dump();
  const auto again = msb::JsonDocument::parse(once, {.max_bytes = std::size_t{16} << 20});
  if (!again.ok()) std::abort();
  if (!has_fraction(document->root()) && again->root().dump() != once) std::abort();
  return 0;
}
