// SPDX-License-Identifier: Apache-2.0
// PAX records: accepted ones must say what they say however often they are read, and sparse maps pair up.
#include <cstdint>

#include "base/check.h"
#include "oci/tar_extensions.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view records = msb::as_text({data, size});
  msb::oci::PaxExtensions once;
  if (!once.parse(records).ok()) return 0;
  MSB_CHECK(once.xattrs.size() <= size && once.sparse_ranges.size() <= size);
  if (once.path) MSB_CHECK(once.path->find('\0') == std::string::npos);
  if (once.mtime) MSB_CHECK(once.mtime->nanoseconds < 1'000'000'000);
  const std::string first_path = once.path.value_or("");
  MSB_CHECK(once.parse(records).ok());
  MSB_CHECK(once.path.value_or("") == first_path);
  return 0;
}
