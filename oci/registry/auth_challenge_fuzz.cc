// SPDX-License-Identifier: Apache-2.0
// WWW-Authenticate headers: what is accepted can go into a URL's query and cannot bring line ends or other
// hosts with it.
#include <cstdint>

#include "base/bytes.h"
#include "base/check.h"
#include "oci/registry/auth_challenge.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view header = msb::as_text({data, size});
  const auto challenge = msb::oci::parse_auth_challenge(header);
  if (!challenge.ok()) return 0;
  for (const std::string* text : {&challenge->realm, &challenge->service, &challenge->scope}) {
    MSB_CHECK(text->size() <= size);
    for (const char c : *text) MSB_CHECK(static_cast<unsigned char>(c) >= ' ' && c != 0x7f);
    for (const char c : msb::oci::url_encode(*text))
      MSB_CHECK(c > ' ' && c < 0x7f && c != '&' && c != '?' && c != '#');
  }
  if (challenge->kind == msb::oci::AuthChallenge::Kind::kBearer) MSB_CHECK(!challenge->realm.empty());
  return 0;
}
