// SPDX-License-Identifier: Apache-2.0
#include "proto/cpio.h"

#include <gtest/gtest.h>

#include <string>

namespace msb::proto {
namespace {

TEST(CpioTest, File_IsHeaderNameDataEachPaddedToFour) {
  CpioWriter writer;
  writer.add_file("ab", 0644, as_bytes("hello"));
  const Bytes archive = std::move(writer).finish();
  const std::string_view text = as_text(archive);
  EXPECT_EQ(text.substr(0, 110),
            "070701"
            "00000001"  // inode
            "000081A4"  // regular file 0644
            "00000000"
            "00000000"
            "00000001"
            "00000000"
            "00000005"  // size
            "00000000"
            "00000000"
            "00000000"
            "00000000"
            "00000003"  // name with its NUL
            "00000000");
  // 110 + 3 is padded to 116.
  EXPECT_EQ(text.substr(110, 6), std::string_view("ab\0\0\0\0", 6));
  EXPECT_EQ(text.substr(116, 8), std::string_view("hello\0\0\0", 8));
  EXPECT_NE(text.find("TRAILER!!!"), std::string_view::npos);
  EXPECT_EQ(archive.size() % 512, 0U);
}

TEST(CpioTest, DeviceAndDirectory_CarryTypeAndNumbers) {
  CpioWriter writer;
  writer.add_directory("dev");
  writer.add_char_device("dev/console", 0600, 5, 1);
  const Bytes archive = std::move(writer).finish();
  const std::string_view text = as_text(archive);
  EXPECT_EQ(text.substr(14, 8), "000041ED");
  const std::size_t second = text.find("070701", 6);
  ASSERT_NE(second, std::string_view::npos);
  EXPECT_EQ(second % 4, 0U);
  EXPECT_EQ(text.substr(second + 14, 8), "00002180");
  EXPECT_EQ(text.substr(second + 78, 16), "0000000500000001");
}

}  // namespace
}  // namespace msb::proto
