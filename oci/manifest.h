// SPDX-License-Identifier: Apache-2.0
// Manifests and indexes (OCI image specification; Docker schema 2 manifests and manifest lists). Pure;
// hostile input.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace msb::oci {

struct Platform {
  std::string os = "linux";
  std::string architecture;
  std::string variant;  // may be empty
  // "linux/arm64/v8"
  [[nodiscard]] std::string text() const;
};
// "os/arch[/variant]", or just "arch" (os linux then).
[[nodiscard]] Result<Platform> parse_platform(std::string_view text);
// What this machine runs.
[[nodiscard]] Platform host_platform();
// A platform as wanted against one as offered: an absent variant means the architecture's usual one.
[[nodiscard]] bool platform_matches(const Platform& wanted, const Platform& offered);

struct Descriptor {
  std::string media_type;
  std::string digest;  // "sha256:<hex>"
  std::uint64_t size = 0;
  std::optional<Platform> platform;
  std::string reference_name;  // annotation org.opencontainers.image.ref.name
  std::string image_name;      // annotation io.containerd.image.name
};

struct Manifest {
  enum class Kind : std::uint8_t { kImage, kIndex };
  Kind kind = Kind::kImage;
  std::string media_type;           // as the document says; empty in old OCI documents
  Descriptor config;                // kImage
  std::vector<Descriptor> layers;   // kImage, lowest first
  std::vector<Descriptor> entries;  // kIndex
};

// A document must be one kind only and agree with `media_type` where both say something (it may be empty:
// unknown). Errors: kProtocol, kLimit, kUnsupported (Docker schema 1, foreign layers, digests other than
// sha256).
[[nodiscard]] Result<Manifest> parse_manifest(std::string_view json, std::string_view media_type);

// The entry of an index for `wanted`; nullptr if there is none.
[[nodiscard]] const Descriptor* choose_platform(const Manifest& index, const Platform& wanted);
// "linux/amd64, linux/arm64/v8": what an index offers, for error texts.
[[nodiscard]] std::string offered_platforms(const Manifest& index);

}  // namespace msb::oci
