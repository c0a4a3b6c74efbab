// SPDX-License-Identifier: Apache-2.0
// Extended attributes of one inode as the byte string EROFS stores after it (entries only, without the
// header).
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "oci/tar_reader.h"

namespace msb::oci::erofs {

// Attributes this project gives a meaning; never taken from an image.
inline constexpr std::string_view kOverlayOpaque = "trusted.overlay.opaque";
inline constexpr std::string_view kOverlayPrefix = "trusted.overlay.";
inline constexpr std::string_view kOwnPrefix = "trusted.msb.";
inline constexpr std::string_view kOwnImplicit = "trusted.msb.implicit";
inline constexpr std::string_view kOwnLink = "trusted.msb.link";

// True if EROFS has a place for attributes of this namespace (user, trusted, security, lustre, POSIX ACLs).
[[nodiscard]] bool can_store_xattr(std::string_view name);
// Sorted by name, so equal sets give equal strings. Every name must satisfy can_store_xattr.
// kLimit: a name over 255 bytes after its prefix, a value over 65535 bytes, or all together over
// kMaxXattrBody.
[[nodiscard]] Result<std::string> encode_xattrs(std::vector<Xattr> xattrs);
// kCorrupt for what encode_xattrs does not write.
[[nodiscard]] Result<std::vector<Xattr>> decode_xattrs(std::string_view entries);

}  // namespace msb::oci::erofs
