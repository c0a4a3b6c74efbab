// SPDX-License-Identifier: Apache-2.0
// Files of other programs and of users: Docker's and Podman's logins, and our own registries.json. A login
// that was read means the same after it was written and read again.
#include <cstdint>

#include "base/bytes.h"
#include "base/check.h"
#include "oci/registry/credentials.h"
#include "oci/registry/registry_config.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace msb::oci;
  const std::string_view text = msb::as_text({data, size});
  if (const auto file = parse_auth_file(text); file.ok()) {
    AuthFile passwords;
    for (const auto& [registry, credentials] : file->logins) {
      // What `login` can store: a name without ':' and no bare token.
      if (credentials.identity_token.empty() && credentials.user.find(':') == std::string::npos &&
          !credentials.user.empty())
        passwords.logins[registry] = credentials;
    }
    const auto again = parse_auth_file(write_auth_file(passwords));
    MSB_CHECK(again.ok() && again->logins.size() <= passwords.logins.size());
    for (const auto& [registry, credentials] : again->logins) MSB_CHECK(!credentials.user.empty());
  }
  if (const auto config = parse_registry_config(text); config.ok()) {
    for (const auto& [host, settings] : config->registries) {
      const auto endpoints = endpoints_of(*config, host, "a/b");
      MSB_CHECK(endpoints.size() == settings.mirrors.size() + 1);
      for (const Endpoint& endpoint : endpoints) MSB_CHECK(endpoint.base_url.ends_with("/a/b"));
    }
  }
  return 0;
}
