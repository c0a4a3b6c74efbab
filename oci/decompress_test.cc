// SPDX-License-Identifier: Apache-2.0
#include "oci/decompress.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <zlib.h>
#include <zstd.h>

#include "base/check.h"

namespace msb::oci {
namespace {

using ::testing::HasSubstr;

std::string gzip(std::string_view text) {
  z_stream z{};
  MSB_CHECK(deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) == Z_OK);
  std::string out(text.size() + 100, '\0');
  std::string in(text);
  z.next_in = reinterpret_cast<Bytef*>(in.data());
  z.avail_in = static_cast<uInt>(in.size());
  z.next_out = reinterpret_cast<Bytef*>(out.data());
  z.avail_out = static_cast<uInt>(out.size());
  MSB_CHECK(deflate(&z, Z_FINISH) == Z_STREAM_END);
  out.resize(z.total_out);
  deflateEnd(&z);
  return out;
}

std::string zstd(std::string_view text) {
  std::string out(ZSTD_compressBound(text.size()), '\0');
  out.resize(ZSTD_compress(out.data(), out.size(), text.data(), text.size(), 1));
  return out;
}

// Everything the stream gives, or "error: ..." after what came before; the input comes in pieces.
std::string all_of(const std::string& input, std::size_t piece) {
  MemorySource source(as_bytes(input), piece);
  SourceStream stream(source);
  Decompressor decompressor(stream);
  std::string out;
  Bytes buffer(10);
  for (;;) {
    const auto n = decompressor.read(buffer);
    if (!n) return out + "error: " + n.error().text;
    if (*n == 0) return out;
    out += as_text(ByteView(buffer).first(*n));
  }
}

TEST(Decompressor, GivesTheSameHoweverTheInputComes) {
  const std::string zeros(7, '\0');
  for (const std::size_t piece : {std::size_t{1}, std::size_t{3}, std::size_t{1000}}) {
    EXPECT_EQ(all_of("plain", piece), "plain");
    EXPECT_EQ(all_of("", piece), "");
    EXPECT_EQ(all_of(gzip("one ") + gzip("two"), piece), "one two");
    EXPECT_EQ(all_of(gzip("padded") + zeros, piece), "padded");
    EXPECT_EQ(all_of(zstd("one ") + zstd("two"), piece), "one two");
    EXPECT_THAT(all_of(gzip("one") + zeros + gzip("two"), piece),
                HasSubstr("error: decompress: bytes after"));
    EXPECT_THAT(all_of(gzip("cut").substr(0, 15), piece), HasSubstr("ends early"));
    EXPECT_THAT(all_of(zstd("cut cut cut").substr(0, 12), piece), HasSubstr("ends early"));
    EXPECT_THAT(all_of(gzip("one") + "junk", piece), HasSubstr("error"));
    EXPECT_THAT(all_of(zstd("one") + "junk", piece), HasSubstr("error"));
  }
}

TEST(Decompressor, NoticesAChangedByte) {
  std::string damaged = gzip("some content that is checked");
  damaged[damaged.size() - 6] = static_cast<char>(damaged[damaged.size() - 6] ^ 1);  // in the CRC
  EXPECT_THAT(all_of(damaged, 100), HasSubstr("error"));
}

TEST(Decompressor, RefusesZstdWindowsThatAskForGigabytes) {
  // A frame header with a window of 2^31 bytes (RFC 8878 section 3.1.1.1.2).
  EXPECT_THAT(all_of(std::string("\x28\xb5\x2f\xfd\x00\xa8\x00\x00\x00", 9), 100), HasSubstr("error"));
}

}  // namespace
}  // namespace msb::oci
