// SPDX-License-Identifier: Apache-2.0
#include "oci/registry/registry_config.h"

#include "base/file.h"
#include "base/json.h"
#include "base/log.h"

namespace msb::oci {
namespace {

constexpr std::size_t kMaxFile = 1U << 20;
constexpr std::size_t kMaxMirrors = 16;

bool is_mirror(std::string_view text) {
  if (text.empty() || text.size() > 255 || text.front() == '/' || text.back() == '/') return false;
  return text.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_:/[]") ==
         std::string_view::npos;
}

Endpoint endpoint(const RegistryConfig& config, const std::string& host, const std::string& prefix,
                  const std::string& repository) {
  const RegistrySettings settings = config.settings_of(host);
  Endpoint out;
  out.host = host;
  out.policy.plain_http = settings.plain_http;
  out.policy.skip_verify = settings.skip_verify;
  out.policy.ca_file = settings.ca_file;
  // Docker's registry answers under another name than images are called by.
  const std::string server = host == "docker.io" ? "registry-1.docker.io" : host;
  out.base_url =
      std::string(settings.plain_http ? "http://" : "https://") + server + "/v2/" + prefix + repository;
  return out;
}

}  // namespace

RegistrySettings RegistryConfig::settings_of(const std::string& host) const {
  const auto found = registries.find(host);
  return found == registries.end() ? RegistrySettings{} : found->second;
}

Result<RegistryConfig> parse_registry_config(std::string_view json) {
  MSB_ASSIGN(const JsonDocument document, JsonDocument::parse(json, {.max_bytes = kMaxFile}));
  MSB_TRY(document.root().only_keys({"registries"}));
  MSB_ASSIGN(const JsonView list, document.root().at("registries"));
  MSB_ASSIGN(const auto members, list.members());
  RegistryConfig config;
  for (const auto& [host, view] : members) {
    MSB_TRY(view.only_keys({"mirrors", "plain_http", "skip_verify", "ca_file"}));
    RegistrySettings settings;
    MSB_ASSIGN(settings.mirrors, view.get_strings_or_empty("mirrors"));
    MSB_ASSIGN(settings.plain_http, view.get_bool_or("plain_http", false));
    MSB_ASSIGN(settings.skip_verify, view.get_bool_or("skip_verify", false));
    MSB_ASSIGN(settings.ca_file, view.get_string_or("ca_file", ""));
    if (settings.mirrors.size() > kMaxMirrors)
      return make_error(Errc::kLimit, "%s: more than %zu mirrors", view.path().c_str(), kMaxMirrors);
    for (const std::string& mirror : settings.mirrors) {
      if (!is_mirror(mirror))
        return make_error(Errc::kInvalid, "%s: the mirror \"%s\" is not HOST[:PORT][/PREFIX]",
                          view.path().c_str(), quote_for_log(mirror).c_str());
    }
    config.registries.emplace(host, std::move(settings));
  }
  return config;
}

Result<RegistryConfig> read_registry_config(const std::string& home) {
  const std::string path = home + "/registries.json";
  const auto text = read_file(path, kMaxFile);
  if (!text) {
    if (text.error().code == Errc::kNotFound) return RegistryConfig{};
    return Error(text.error());
  }
  return parse_registry_config(*text).with_context(path);
}

std::vector<Endpoint> endpoints_of(const RegistryConfig& config, const std::string& registry,
                                   const std::string& repository) {
  std::vector<Endpoint> endpoints;
  for (const std::string& mirror : config.settings_of(registry).mirrors) {
    const std::size_t slash = mirror.find('/');
    const std::string prefix = slash == std::string::npos ? "" : mirror.substr(slash + 1) + "/";
    endpoints.push_back(endpoint(config, mirror.substr(0, slash), prefix, repository));
  }
  endpoints.push_back(endpoint(config, registry, "", repository));
  return endpoints;
}

}  // namespace msb::oci
