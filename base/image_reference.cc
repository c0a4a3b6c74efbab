// SPDX-License-Identifier: Apache-2.0
#include "base/image_reference.h"

#include <algorithm>

#include "base/sha256.h"

namespace msb {
namespace {

constexpr std::string_view kDefaultRegistry = "docker.io";
constexpr std::string_view kDefaultRegistryAlias = "index.docker.io";
constexpr std::string_view kDefaultNamespace = "library/";
constexpr std::string_view kDefaultTag = "latest";
constexpr std::string_view kSha256Prefix = "sha256:";
constexpr std::size_t kSha256HexDigits = 64;

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_lower_alnum(char c) { return is_digit(c) || (c >= 'a' && c <= 'z'); }
bool is_alnum(char c) { return is_lower_alnum(c) || (c >= 'A' && c <= 'Z'); }
bool is_hex(char c) { return is_digit(c) || (c >= 'a' && c <= 'f'); }

// One component of a repository: runs of [a-z0-9] joined by '.', '_', '__' or any number of '-'.
bool is_path_component(std::string_view text) {
  if (text.empty() || !is_lower_alnum(text.front()) || !is_lower_alnum(text.back())) return false;
  for (std::size_t i = 0; i < text.size();) {
    if (is_lower_alnum(text[i])) {
      ++i;
      continue;
    }
    std::size_t end = i;
    while (end < text.size() && !is_lower_alnum(text[end])) ++end;
    const std::string_view joint = text.substr(i, end - i);
    const bool dashes = std::all_of(joint.begin(), joint.end(), [](char c) { return c == '-'; });
    if (!dashes && joint != "." && joint != "_" && joint != "__") return false;
    i = end;
  }
  return true;
}

bool is_port(std::string_view text) {
  if (text.empty() || text.size() > 5 || !std::all_of(text.begin(), text.end(), is_digit)) return false;
  unsigned value = 0;
  for (const char c : text) value = value * 10 + static_cast<unsigned>(c - '0');
  return value <= 65535;
}

// host[:port], where host is a DNS name, an IPv4 address, or an IPv6 address in brackets.
bool is_registry(std::string_view text) {
  std::string_view host = text;
  if (!text.empty() && text.front() == '[') {
    const std::size_t close = text.find(']');
    if (close == std::string_view::npos || close < 3) return false;
    const std::string_view inside = text.substr(1, close - 1);
    if (!std::all_of(inside.begin(), inside.end(),
                     [](char c) { return is_hex(c) || (c >= 'A' && c <= 'F') || c == ':' || c == '.'; }))
      return false;
    const std::string_view rest = text.substr(close + 1);
    return rest.empty() || (rest.front() == ':' && is_port(rest.substr(1)));
  }
  const std::size_t colon = text.find(':');
  if (colon != std::string_view::npos) {
    host = text.substr(0, colon);
    if (!is_port(text.substr(colon + 1))) return false;
  }
  while (true) {
    const std::size_t dot = host.find('.');
    const std::string_view label = host.substr(0, dot);
    if (label.empty() || !is_alnum(label.front()) || !is_alnum(label.back())) return false;
    if (!std::all_of(label.begin(), label.end(), [](char c) { return is_alnum(c) || c == '-'; }))
      return false;
    if (dot == std::string_view::npos) return true;
    host.remove_prefix(dot + 1);
  }
}

bool is_tag(std::string_view text) {
  if (text.empty() || text.size() > kMaxImageTagBytes) return false;
  if (!is_alnum(text.front()) && text.front() != '_') return false;
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return is_alnum(c) || c == '_' || c == '.' || c == '-'; });
}

Error invalid(std::string_view text, const char* reason) {
  // The name is outside text: it may be long or hold control bytes, so a bounded, cleaned copy is shown.
  std::string shown;
  for (const char c : text.substr(0, 100)) shown.push_back(c >= ' ' && c <= '~' ? c : '?');
  return make_error(Errc::kInvalid, "image reference \"%s\": %s", shown.c_str(), reason);
}

// The first component names a registry only if it cannot be a repository component. Capitals alone do not
// tell: the registry's canonical form has none, and would read as a component.
bool looks_like_registry(std::string_view first) {
  return first.find_first_of(".:[") != std::string_view::npos || first == "localhost";
}

}  // namespace

bool is_sha256_digest(std::string_view text) {
  if (text.size() != kSha256Prefix.size() + kSha256HexDigits || !text.starts_with(kSha256Prefix))
    return false;
  text.remove_prefix(kSha256Prefix.size());
  return std::all_of(text.begin(), text.end(), is_hex);
}

Result<ImageReference> parse_image_reference(std::string_view text) {
  ImageReference reference;
  std::string_view rest = text;
  if (rest.empty()) return invalid(text, "it is empty");

  if (const std::size_t at = rest.find('@'); at != std::string_view::npos) {
    const std::string_view digest = rest.substr(at + 1);
    if (!is_sha256_digest(digest)) {
      return invalid(text, "the digest after '@' must be sha256: and 64 lower-case hexadecimal digits");
    }
    reference.digest = digest;
    rest = rest.substr(0, at);
  }
  // A tag follows the last ':' unless that belongs to the registry's port (then a '/' comes after it).
  const std::size_t slash = rest.rfind('/');
  const std::size_t colon = rest.rfind(':');
  if (colon != std::string_view::npos && (slash == std::string_view::npos || colon > slash)) {
    const std::string_view tag = rest.substr(colon + 1);
    if (!is_tag(tag)) {
      return invalid(text,
                     "a tag is 1 to 128 letters, digits, '_', '.' or '-', not beginning with '.' or '-'");
    }
    reference.tag = tag;
    rest = rest.substr(0, colon);
  } else if (reference.digest.empty()) {
    reference.tag = kDefaultTag;
  }

  const std::size_t first_slash = rest.find('/');
  if (first_slash != std::string_view::npos && looks_like_registry(rest.substr(0, first_slash))) {
    reference.registry = rest.substr(0, first_slash);
    rest = rest.substr(first_slash + 1);
    if (!is_registry(reference.registry)) return invalid(text, "the registry is not HOST or HOST:PORT");
    std::transform(reference.registry.begin(), reference.registry.end(), reference.registry.begin(),
                   [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
    if (reference.registry == kDefaultRegistryAlias) reference.registry = kDefaultRegistry;
  } else {
    reference.registry = kDefaultRegistry;
  }

  if (rest.size() == kSha256HexDigits && std::all_of(rest.begin(), rest.end(), is_hex)) {
    return invalid(text, "64 hexadecimal digits are an image id, not a name");
  }
  for (std::string_view left = rest;;) {
    const std::size_t end = left.find('/');
    if (!is_path_component(left.substr(0, end))) {
      return invalid(text,
                     "a name is made of lower-case letters and digits joined by '.', '_', '__', '-' or '/'");
    }
    if (end == std::string_view::npos) break;
    left.remove_prefix(end + 1);
  }
  reference.repository = rest;
  if (reference.registry == kDefaultRegistry && rest.find('/') == std::string_view::npos) {
    reference.repository.insert(0, kDefaultNamespace);
  }
  if (reference.registry.size() + 1 + reference.repository.size() > kMaxImageNameBytes) {
    return invalid(text, "the name is longer than 255 bytes");
  }
  return reference;
}

std::string ImageReference::canonical() const {
  std::string text = registry + "/" + repository;
  if (!tag.empty()) text += ":" + tag;
  if (!digest.empty()) text += "@" + digest;
  return text;
}

std::string ImageReference::familiar() const {
  std::string text = registry + "/" + repository;
  if (registry == kDefaultRegistry) {
    std::string_view name = repository;
    if (name.starts_with(kDefaultNamespace) &&
        name.find('/', kDefaultNamespace.size()) == std::string_view::npos) {
      name.remove_prefix(kDefaultNamespace.size());
    }
    // The short form must mean the same when it is read again.
    const std::size_t slash = name.find('/');
    const bool as_registry = slash != std::string_view::npos && looks_like_registry(name.substr(0, slash));
    const bool as_id = name.size() == kSha256HexDigits && std::all_of(name.begin(), name.end(), is_hex);
    if (!as_registry && !as_id) text = name;
  }
  if (!tag.empty() && (tag != kDefaultTag || !digest.empty())) text += ":" + tag;
  if (!digest.empty()) text += "@" + digest;
  return text;
}

std::string ImageReference::key() const { return sha256_hex(canonical()); }

}  // namespace msb
