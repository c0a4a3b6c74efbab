// SPDX-License-Identifier: Apache-2.0
// Layers unpacked and merged in memory, and what is in them, for tests.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "oci/erofs_reader.h"
#include "oci/limits.h"
#include "oci/tar_reader.h"
#include "oci/tree.h"
#include "oci/unpack.h"

namespace msb::oci::testing {

struct UnpackedLayer {
  LayerSummary summary;
  Bytes blob;
  Bytes split;
};
// `stream`: a tar, compressed or not.
[[nodiscard]] Result<UnpackedLayer> unpack(ByteView stream, const Limits& limits = {});
// The tar stream that a layer's record and blob stand for.
[[nodiscard]] Result<std::string> rebuild(const UnpackedLayer& layer);

struct FoundFile {
  erofs::Reader::Info info;
  std::string content;  // of a file or link
  std::vector<Xattr> xattrs;
};
// Everything in an EROFS image by path; the root is "". Fails on the first thing that does not hold together.
[[nodiscard]] Result<std::map<std::string, FoundFile>> list_all(ByteView image);

// The merged tree of these layers as sorted lines: "name d 755 0:0", "name f 644 0:0 SIZE@LAYER",
// "name l 777 0:0 -> target".
[[nodiscard]] Result<std::vector<std::string>> merge(const std::vector<std::string>& tars);

}  // namespace msb::oci::testing
