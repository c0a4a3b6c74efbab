// SPDX-License-Identifier: Apache-2.0
#include "base/ip_address.h"

#include <gtest/gtest.h>

namespace msb {
namespace {

TEST(IpAddress, Parse_CanonicalForms_RoundTrip) {
  for (const char* text :
       {"0.0.0.0", "1.2.3.4", "255.255.255.255", "::", "::1", "1::", "fd42:6d73:62::2", "2001:db8::1:0:0:1",
        "1:2:3:4:5:6:7:8", "::ffff:1.2.3.4", "fe80::1", "1:0:3:4:5:6:7:8"}) {
    const auto address = IpAddress::parse(text);
    ASSERT_TRUE(address) << text;
    EXPECT_EQ(address->text(), text);
  }
  EXPECT_EQ(IpAddress::parse("0:0:0:0:0:0:0:1")->text(), "::1");
  EXPECT_EQ(IpAddress::parse("64:ff9b::10.0.0.1")->text(), "64:ff9b::a00:1");
  EXPECT_EQ(IpAddress::parse("ABCD::EF")->text(), "abcd::ef");
  EXPECT_EQ(IpAddress::parse("1:2:3:4:5:6:7::")->text(), "1:2:3:4:5:6:7:0");
}

TEST(IpAddress, Parse_AmbiguousOrMalformed_Refused) {
  for (const char* text : {"",
                           "1",
                           "1.2.3",
                           "1.2.3.4.5",
                           "01.2.3.4",
                           "0x7f.0.0.1",
                           "256.1.1.1",
                           "1.2.3.4 ",
                           " 1.2.3.4",
                           "1..2.3",
                           ":",
                           ":::",
                           "1::2::3",
                           "1:2:3:4:5:6:7",
                           "1:2:3:4:5:6:7:8:9",
                           "fe80::1%eth0",
                           "[::1]",
                           "::12345",
                           "1:2:3:4:5:6:7:1.2.3.4",
                           "::1.2.3",
                           "1.2.3.4::",
                           "g::",
                           "1:",
                           ":1",
                           "1:2:3:4:5:6:7:8::"}) {
    EXPECT_FALSE(IpAddress::parse(text)) << text;
  }
}

TEST(IpPrefix, Contains_BoundaryBits) {
  const auto cgnat = IpPrefix::parse("100.64.0.0/10");
  ASSERT_TRUE(cgnat);
  EXPECT_TRUE(cgnat->contains(*IpAddress::parse("100.127.255.255")));
  EXPECT_FALSE(cgnat->contains(*IpAddress::parse("100.128.0.0")));
  EXPECT_FALSE(cgnat->contains(*IpAddress::parse("100.63.255.255")));
  EXPECT_FALSE(cgnat->contains(*IpAddress::parse("6440::")));
  EXPECT_EQ(IpPrefix::parse("10.1.2.3/8")->text(), "10.0.0.0/8");
  EXPECT_TRUE(IpPrefix::parse("0.0.0.0/0")->contains(*IpAddress::parse("255.1.1.1")));
  EXPECT_FALSE(IpPrefix::parse("1.2.3.4/33"));
  EXPECT_FALSE(IpPrefix::parse("::/129"));
  EXPECT_TRUE(IpPrefix::parse("10.0.0.0/8")->contains(*IpPrefix::parse("10.2.0.0/16")));
  EXPECT_FALSE(IpPrefix::parse("10.0.0.0/16")->contains(*IpPrefix::parse("10.0.0.0/8")));
}

TEST(ParsePort, OnlyPlainDecimals) {
  EXPECT_EQ(parse_port("0"), 0);
  EXPECT_EQ(parse_port("65535"), 65535);
  for (const char* text : {"", "00", "01", "+1", "-1", "65536", " 1", "1 ", "0x1"})
    EXPECT_FALSE(parse_port(text)) << text;
}

}  // namespace
}  // namespace msb
