// SPDX-License-Identifier: Apache-2.0
// Names of images as Docker writes them, brought to one canonical form. Pure text; no I/O.
//
//   busybox                      docker.io/library/busybox:latest
//   ghcr.io/a/b:1                ghcr.io/a/b:1
//   localhost:5000/x@sha256:…    localhost:5000/x@sha256:…
//
// Grammar: the OCI distribution specification ("Pulling manifests") for names and tags; the rule that the
// first component is a host when it holds '.' or ':' or is "localhost", and the docker.io/library defaults,
// are Docker's.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"

namespace msb {

struct ImageReference {
  std::string registry;    // "docker.io", "localhost:5000", "[::1]:5000"
  std::string repository;  // "library/busybox"
  std::string tag;         // empty only when a digest is given without a tag
  std::string digest;      // "sha256:<64 hex>" or empty; when set it decides what is pulled

  // registry/repository[:tag][@digest]; equal for all spellings of the same image.
  [[nodiscard]] std::string canonical() const;
  // The short form people type: without docker.io/, library/ and :latest where these are the defaults.
  [[nodiscard]] std::string familiar() const;
  // File name stem of this reference in the image store: sha256 of canonical(), 64 hexadecimal digits.
  [[nodiscard]] std::string key() const;
  friend bool operator==(const ImageReference&, const ImageReference&) = default;
};

inline constexpr std::size_t kMaxImageNameBytes = 255;  // registry and repository together
inline constexpr std::size_t kMaxImageTagBytes = 128;

// Errors: kInvalid, saying which part is wrong. A bare 64-digit hexadecimal name is refused: it would be read
// as an image id by some tools and as a name by others.
[[nodiscard]] Result<ImageReference> parse_image_reference(std::string_view text);

// True for "sha256:" and 64 lower-case hexadecimal digits, the only digests taken.
[[nodiscard]] bool is_sha256_digest(std::string_view text);

}  // namespace msb
