// SPDX-License-Identifier: Apache-2.0
#include "oci/manifest.h"

#include <sys/utsname.h>

#include <algorithm>

#include "base/image_reference.h"
#include "base/json.h"
#include "base/log.h"
#include "oci/limits.h"
#include "oci/media_types.h"

namespace msb::oci {
namespace {

constexpr std::size_t kMaxIndexEntries = 1024;
constexpr std::size_t kMaxManifestLayers = 1024;
constexpr std::uint64_t kMaxBlobBytes = std::uint64_t{1} << 42;

bool is_index_type(std::string_view type) { return type == kOciIndex || type == kDockerList; }
bool is_image_type(std::string_view type) { return type == kOciManifest || type == kDockerManifest; }

Result<Descriptor> parse_descriptor(const JsonView& json) {
  Descriptor descriptor;
  MSB_ASSIGN(descriptor.media_type, json.get_string_or("mediaType", ""));
  MSB_ASSIGN(descriptor.digest, json.get_string("digest"));
  if (!is_sha256_digest(descriptor.digest))
    return make_error(Errc::kUnsupported, "%s.digest: only sha256 digests are understood",
                      json.path().c_str());
  MSB_ASSIGN(descriptor.size, json.get_uint("size", kMaxBlobBytes));
  if (const auto platform = json.find("platform")) {
    Platform value;
    MSB_ASSIGN(value.os, platform->get_string_or("os", ""));
    MSB_ASSIGN(value.architecture, platform->get_string_or("architecture", ""));
    MSB_ASSIGN(value.variant, platform->get_string_or("variant", ""));
    descriptor.platform = std::move(value);
  }
  if (const auto annotations = json.find("annotations")) {
    MSB_ASSIGN(descriptor.reference_name,
               annotations->get_string_or("org.opencontainers.image.ref.name", ""));
    MSB_ASSIGN(descriptor.image_name, annotations->get_string_or("io.containerd.image.name", ""));
  }
  return descriptor;
}

std::string usual_variant(const std::string& architecture) {
  return architecture == "arm64" ? "v8" : architecture == "arm" ? "v7" : "";
}

}  // namespace

std::string Platform::text() const {
  return os + "/" + architecture + (variant.empty() ? "" : "/" + variant);
}

Result<Platform> parse_platform(std::string_view text) {
  std::vector<std::string> parts;
  for (std::string_view rest = text;;) {
    const std::size_t slash = rest.find('/');
    parts.emplace_back(rest.substr(0, slash));
    if (slash == std::string_view::npos) break;
    rest.remove_prefix(slash + 1);
  }
  const bool sound =
      parts.size() <= 3 && std::all_of(parts.begin(), parts.end(), [](const std::string& part) {
        return !part.empty() && std::all_of(part.begin(), part.end(), [](char c) {
          return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '.' || c == '-';
        });
      });
  if (!sound)
    return make_error(Errc::kInvalid, "platform \"%s\": expected OS/ARCH[/VARIANT], as linux/amd64",
                      quote_for_log(text, 64).c_str());
  Platform platform;
  if (parts.size() == 1) {
    platform.architecture = parts[0];
    return platform;
  }
  platform.os = parts[0];
  platform.architecture = parts[1];
  if (parts.size() == 3) platform.variant = parts[2];
  return platform;
}

Platform host_platform() {
  utsname name{};
  Platform platform;
  if (::uname(&name) != 0) return platform;
  const std::string_view machine = name.machine;
  platform.architecture = machine == "x86_64"    ? "amd64"
                          : machine == "aarch64" ? "arm64"
                                                 : std::string(machine);
  return platform;
}

bool platform_matches(const Platform& wanted, const Platform& offered) {
  if (wanted.os != offered.os || wanted.architecture != offered.architecture) return false;
  const std::string usual = usual_variant(wanted.architecture);
  return (wanted.variant.empty() ? usual : wanted.variant) ==
         (offered.variant.empty() ? usual : offered.variant);
}

Result<Manifest> parse_manifest(std::string_view json, std::string_view media_type) {
  MSB_ASSIGN(const JsonDocument document, JsonDocument::parse(json, {.max_bytes = kMaxManifestBytes}));
  const JsonView root = document.root();
  Manifest manifest;
  MSB_ASSIGN(manifest.media_type, root.get_string_or("mediaType", ""));
  MSB_ASSIGN(const std::uint64_t version, root.get_uint_or("schemaVersion", 0));
  if (version == 1)
    return make_error(Errc::kUnsupported,
                      "a Docker schema 1 manifest: the image must be pushed anew by a newer program");
  if (version != 2) return make_error(Errc::kProtocol, "schemaVersion is not 2");
  const bool has_layers = root.find("layers").has_value() || root.find("config").has_value();
  const bool has_entries = root.find("manifests").has_value();
  if (has_layers == has_entries)
    return make_error(Errc::kProtocol, "neither an image manifest nor an index, or both at once");
  manifest.kind = has_entries ? Manifest::Kind::kIndex : Manifest::Kind::kImage;
  for (const std::string_view type : {std::string_view(manifest.media_type), media_type}) {
    if ((is_index_type(type) && !has_entries) || (is_image_type(type) && has_entries)) {
      return make_error(Errc::kProtocol, "the document is not what its media type says");
    }
  }
  if (!manifest.media_type.empty() && !media_type.empty() &&
      (is_index_type(media_type) || is_image_type(media_type)) && manifest.media_type != media_type) {
    return make_error(Errc::kProtocol, "the document says another media type than its sender");
  }
  if (has_entries) {
    MSB_ASSIGN(const JsonView list, root.at("manifests"));
    MSB_ASSIGN(const auto elements, list.elements());
    if (elements.size() > kMaxIndexEntries)
      return make_error(Errc::kLimit, "an index with more than %zu entries", kMaxIndexEntries);
    for (const JsonView& element : elements) {
      MSB_ASSIGN(Descriptor entry, parse_descriptor(element));
      manifest.entries.push_back(std::move(entry));
    }
    return manifest;
  }
  MSB_ASSIGN(const JsonView config, root.at("config"));
  MSB_ASSIGN(manifest.config, parse_descriptor(config));
  MSB_ASSIGN(const JsonView list, root.at("layers"));
  MSB_ASSIGN(const auto elements, list.elements());
  if (elements.size() > kMaxManifestLayers)
    return make_error(Errc::kLimit, "a manifest with more than %zu layers", kMaxManifestLayers);
  for (const JsonView& element : elements) {
    MSB_ASSIGN(Descriptor layer, parse_descriptor(element));
    manifest.layers.push_back(std::move(layer));
  }
  return manifest;
}

const Descriptor* choose_platform(const Manifest& index, const Platform& wanted) {
  for (const Descriptor& entry : index.entries) {
    if (entry.platform && platform_matches(wanted, *entry.platform)) return &entry;
  }
  // An index of one image that does not say its platform leaves nothing to choose.
  if (index.entries.size() == 1 && !index.entries[0].platform) return &index.entries[0];
  return nullptr;
}

std::string offered_platforms(const Manifest& index) {
  std::string text;
  for (const Descriptor& entry : index.entries) {
    if (!entry.platform || entry.platform->os == "unknown") continue;  // attestations and the like
    if (text.size() > 500) return text + ", ...";
    text += (text.empty() ? "" : ", ") + quote_for_log(entry.platform->text(), 64);
  }
  return text.empty() ? "none" : text;
}

}  // namespace msb::oci
