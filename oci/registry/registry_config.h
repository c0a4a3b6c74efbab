// SPDX-License-Identifier: Apache-2.0
// How registries are reached: $MSB_HOME/registries.json, written by the user.
//
//   {"registries": {
//      "docker.io":       {"mirrors": ["mirror.example", "other.example/proxy"]},
//      "localhost:5000":  {"plain_http": true},
//      "corp.example":    {"ca_file": "/etc/corp.pem"}}}
//
// A mirror is itself looked up here, so that each host's own settings hold for it. Unknown keys are refused.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "oci/registry/http.h"

namespace msb::oci {

struct RegistrySettings {
  std::vector<std::string> mirrors;  // HOST[:PORT][/PREFIX], tried in order before the registry itself
  bool plain_http = false;
  bool skip_verify = false;
  std::string ca_file;
};

struct RegistryConfig {
  std::map<std::string, RegistrySettings> registries;
  [[nodiscard]] RegistrySettings settings_of(const std::string& host) const;
};
[[nodiscard]] Result<RegistryConfig> parse_registry_config(std::string_view json);
// A missing file is an empty configuration.
[[nodiscard]] Result<RegistryConfig> read_registry_config(const std::string& home);

// Where a repository can be asked for.
struct Endpoint {
  std::string host;      // as credentials name it
  std::string base_url;  // "https://HOST/v2/PREFIX/REPOSITORY"
  HttpPolicy policy;
};
// Mirrors first, the registry itself last.
[[nodiscard]] std::vector<Endpoint> endpoints_of(const RegistryConfig& config, const std::string& registry,
                                                 const std::string& repository);

}  // namespace msb::oci
