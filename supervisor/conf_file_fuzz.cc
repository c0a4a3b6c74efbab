// SPDX-License-Identifier: Apache-2.0
// Configuration text of any kind must end as a spec or an error, and what is a spec must survive its JSON
// form.
#include <cstdint>
#include <cstdlib>
#include <string>

#include "supervisor/conf_file.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace msb::supervisor;  // NOLINT: a fuzz target is one function
  const std::string text(data, data + size);
  const auto spec = spec_from_conf({{"fuzz.yaml", text}}, nullptr);
  if (!spec.ok()) return 0;
  const auto back = spec_from_json(spec_to_json(*spec));
  if (!back.ok() || !(*back == *spec)) std::abort();
  (void)validate_spec(*spec).ok();
  return 0;
}
