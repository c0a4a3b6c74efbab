// SPDX-License-Identifier: Apache-2.0
// A layer's blob damaged on the disk: reading and merging it ends in an error or a tree, never elsewhere. The
// input is laid over a sound blob of one kind of everything, in patches of (offset, length, bytes).
#include <algorithm>
#include <cstdint>

#include "base/check.h"
#include "oci/merge.h"
#include "oci/testing/layers.h"
#include "oci/testing/tar_builder.h"

namespace {

const msb::Bytes& sound_blob() {
  static const msb::Bytes blob = [] {
    msb::oci::testing::TarBuilder tar;
    tar.add({.name = "d/", .type = '5', .pax = {{"SCHILY.xattr.user.a", "b"}}})
        .add({.name = "d/f", .data = "content"})
        .add({.name = "d/g", .type = '1', .link = "d/f"})
        .add({.name = "s", .data = "x", .pax = {{"GNU.sparse.size", "9000"}, {"GNU.sparse.map", "5000,1"}}})
        .add({.name = "l", .type = '2', .link = "d/f"})
        .add({.name = "n", .type = '3', .major = 1, .minor = 3})
        .add({.name = ".wh.gone"})
        .add({.name = "h", .type = '1', .link = "elsewhere"})
        .add({.name = "o/.wh..wh..opq"});
    auto layer = msb::oci::testing::unpack(msb::as_bytes(tar.end()));
    MSB_CHECK(layer.ok());
    return std::move(layer->blob);
  }();
  return blob;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  msb::Bytes blob = sound_blob();
  msb::ByteReader input({data, size});
  while (const auto offset = input.take<msb::Le16>()) {
    const auto length = input.take_u8();
    if (!length) break;
    const auto bytes = input.take(std::min<std::size_t>(*length, input.remaining()));
    const std::size_t at = offset->get() % blob.size();
    std::copy_n(bytes->begin(), std::min(bytes->size(), blob.size() - at),
                blob.begin() + static_cast<std::ptrdiff_t>(at));
  }
  const auto reader = msb::oci::erofs::Reader::open(blob);
  if (!reader.ok()) return 0;
  msb::oci::Limits limits;
  limits.max_entries = 1000;
  limits.max_text_bytes = 1U << 20;
  limits.max_xattr_bytes = 1U << 20;
  limits.max_chunks = 1U << 16;
  msb::oci::Tree tree(limits);
  msb::oci::Merger merger(tree);
  [[maybe_unused]] const auto status = merger.add_layer(*reader, 0);
  [[maybe_unused]] const auto files = msb::oci::testing::list_all(blob);
  return 0;
}
