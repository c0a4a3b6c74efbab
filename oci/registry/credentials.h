// SPDX-License-Identifier: Apache-2.0
// Who we are to a registry: msb's own file, and what Docker and Podman keep (config.json, auth.json,
// credential helpers), in their formats.
//
// Secrets live in these structures and in the request that needs them; they are never logged or put on a
// command line.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace msb::oci {

struct Credentials {
  std::string user;
  std::string password;
  std::string identity_token;  // OAuth2 refresh token, instead of a password
};

// The part of a Docker or Podman auth file that matters here.
struct AuthFile {
  std::map<std::string, Credentials> logins;   // by normalised registry or registry/repository
  std::map<std::string, std::string> helpers;  // registry -> helper's name
  std::string default_helper;                  // "credsStore"
};
// Entries that cannot be read are refused as a whole: a half-read file would try the wrong account.
[[nodiscard]] Result<AuthFile> parse_auth_file(std::string_view json);
[[nodiscard]] std::string write_auth_file(const AuthFile& file);
// "https://index.docker.io/v1/" -> "docker.io", "HOST/v2/" -> "HOST".
[[nodiscard]] std::string normalise_registry(std::string_view key);

// Path of msb's own file.
[[nodiscard]] std::string own_auth_path(const std::string& home);
[[nodiscard]] Result<AuthFile> read_auth_file(const std::string& path);  // a missing one is empty

// Searches msb's own file, then Podman's, then Docker's. nullopt: nothing is known (anonymous access).
[[nodiscard]] Result<std::optional<Credentials>> find_credentials(const std::string& home,
                                                                  const std::string& registry,
                                                                  const std::string& repository);

}  // namespace msb::oci
