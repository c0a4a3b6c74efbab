// SPDX-License-Identifier: Apache-2.0
// What a registry asks for with 401: the WWW-Authenticate header (RFC 7235 section 4.1, RFC 6750 section 3)
// in the form registries use it (OCI distribution: "token authentication"). Pure; hostile input.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"

namespace msb::oci {

struct AuthChallenge {
  enum class Kind : std::uint8_t { kBearer, kBasic };
  Kind kind = Kind::kBasic;
  std::string realm;    // of kBearer: the URL of the token service
  std::string service;  // may be empty
  std::string scope;    // may be empty
};
// The first challenge in `header` that we can meet, Bearer before Basic. kUnsupported if there is none.
[[nodiscard]] Result<AuthChallenge> parse_auth_challenge(std::string_view header);

// Percent-encoded for the query of a URL (RFC 3986: all but unreserved characters).
[[nodiscard]] std::string url_encode(std::string_view text);

}  // namespace msb::oci
