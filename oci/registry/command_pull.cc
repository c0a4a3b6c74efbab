// SPDX-License-Identifier: Apache-2.0
// msb-registry pull: images from registries.
#include <cstdio>

#include "base/json.h"
#include "base/log.h"
#include "oci/commands.h"
#include "oci/confine_parent.h"
#include "oci/registry/pull.h"
#include "oci/registry/pull_calls.h"
#include "oci/registry/registry_commands.h"

namespace msb::oci {
namespace {

// Every extra file that requests will read, to be left readable.
std::vector<std::string> ca_files(const RegistryConfig& config) {
  std::vector<std::string> files;
  for (const auto& [host, settings] : config.registries) {
    if (!settings.ca_file.empty()) files.push_back(settings.ca_file);
  }
  return files;
}

}  // namespace

Status pull_command(const Arguments& arguments) {
  Options options(
      "pull [--platform OS/ARCH] [--policy always|missing|never] [--plain-http] [--ca-file FILE] [-q] "
      "[--json] "
      "IMAGE...");
  PullOptions pull;
  std::string platform;
  std::string policy = "always";
  std::string ca_file;
  bool plain_http = false;
  bool quiet = false;
  bool json_output = false;
  std::uint32_t parallel = pull.parallel;
  std::uint32_t retries = 5;
  std::uint32_t stall_timeout_s = 60;
  options.text("platform", platform);
  options.text("policy", policy);
  options.text("ca-file", ca_file);
  options.flag("plain-http", plain_http);
  options.flag("quiet", quiet, "q");
  options.flag("json", json_output);
  options.number32("parallel", parallel);
  options.number32("retries", retries);
  options.number32("stall-timeout", stall_timeout_s);
  add_limit_options(options, pull.stage.limits);
  MSB_TRY(options.parse(arguments));
  if (options.positional().empty()) return make_error(Errc::kInvalid, "usage: msb pull IMAGE...");
  if (policy != "always" && policy != "missing" && policy != "never")
    return make_error(Errc::kInvalid, "--policy: expected always, missing or never");
  if (parallel == 0 || parallel > 16) return make_error(Errc::kInvalid, "--parallel: expected 1 to 16");
  if (retries > 100 || stall_timeout_s == 0 || stall_timeout_s > 3600)
    return make_error(Errc::kInvalid, "--retries: 0 to 100; --stall-timeout: 1 to 3600 seconds");
  pull.parallel = parallel;
  pull.retries = static_cast<int>(retries);
  if (!platform.empty()) {
    MSB_ASSIGN(pull.platform, parse_platform(platform));
  }
  std::vector<ImageReference> references;
  for (const std::string& text : options.positional()) {
    MSB_ASSIGN(ImageReference reference, parse_image_reference(text));
    references.push_back(std::move(reference));
  }
  MSB_ASSIGN(const Store store, open_store());
  MSB_ASSIGN(RegistryConfig registries, read_registry_config(store.home()));
  for (const ImageReference& reference : references) {
    RegistrySettings& settings = registries.registries[reference.registry];
    settings.plain_http = settings.plain_http || plain_http;
    if (!ca_file.empty()) settings.ca_file = ca_file;
  }
  std::vector<std::vector<PullSource>> sources;
  for (const ImageReference& reference : references) {
    MSB_ASSIGN(auto list, pull_sources(store.home(), registries, reference));
    for (PullSource& source : list) source.endpoint.policy.stall_timeout_s = long{stall_timeout_s};
    sources.push_back(std::move(list));
  }
  MSB_ASSIGN(pull.stage.unpacker, unpacker_path());
  confine_parent(store.home(), Job::kPull, {.readable_files = ca_files(registries)});
  if (const Status status = restrict_pull_calls(); !status.ok())
    MSB_INFO("confinement is incomplete: %s", status.error().text.c_str());
  MSB_ASSIGN(const UniqueFd lock, store.lock(Store::Access::kAdd, true));
  store.sweep_temp();
  Progress progress(Progress::style_of(quiet || json_output));
  JsonWriter json;
  json.begin_array();
  for (std::size_t i = 0; i < references.size(); ++i) {
    const ImageReference& reference = references[i];
    const bool present = store.has("refs/" + reference.key() + ".json");
    if (policy == "never" && !present)
      return make_error(Errc::kNotFound, "pull %s: it is not in the store, and the policy is never",
                        reference.familiar().c_str());
    PulledImage pulled;
    if (policy == "always" || !present) {
      auto result = pull_image(store, reference, sources[i], pull, progress);
      if (!result) return std::move(result).error().with_context("pull " + reference.familiar());
      pulled = std::move(result).value();
    }
    json.begin_object()
        .field("reference", reference.canonical())
        .field("manifest_digest", pulled.manifest_digest);
    json.field("fetched", pulled.fetched).end_object();
    if (!json_output) std::printf("%s\n", reference.canonical().c_str());
  }
  json.end_array();
  if (json_output) std::printf("%s\n", std::move(json).take().c_str());
  return {};
}

}  // namespace msb::oci
