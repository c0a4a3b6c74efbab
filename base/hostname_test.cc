// SPDX-License-Identifier: Apache-2.0
#include "base/hostname.h"

#include <gtest/gtest.h>

namespace msb {
namespace {

std::string canonical(std::string_view text) {
  auto name = Hostname::parse(text);
  return name ? name->text() : "refused";
}

TEST(Hostname, Parse_CaseAndTrailingDot_OneForm) {
  EXPECT_EQ(canonical("Example.COM."), "example.com");
  EXPECT_EQ(canonical("a"), "a");
  EXPECT_EQ(canonical("_dmarc.example.com"), "_dmarc.example.com");
  EXPECT_EQ(canonical("1.2.3.4.in-addr.arpa"), "1.2.3.4.in-addr.arpa");
}

TEST(Hostname, Parse_International_BecomesPunycode) {
  EXPECT_EQ(canonical("b\xc3\xbc"
                      "cher.example"),
            "xn--bcher-kva.example");
  EXPECT_EQ(canonical("\xe4\xbe\x8b\xe3\x81\x88.jp"), "xn--r8jz45g.jp");
}

TEST(Hostname, Parse_OddBytes_Refused) {
  using namespace std::string_view_literals;
  for (const std::string_view text : {""sv,
                                      "."sv,
                                      "a..b"sv,
                                      ".a"sv,
                                      "a.."sv,
                                      "a b.com"sv,
                                      "a\0.com"sv,
                                      "a.com\n"sv,
                                      "a\t.com"sv,
                                      "a/b"sv,
                                      "a@b"sv,
                                      "a:80"sv,
                                      "*.a"sv,
                                      "-a.com"sv,
                                      "a-.com"sv,
                                      "1.2.3.4"sv,
                                      "127.1"sv,
                                      "0x7f000001"sv,
                                      "\xff.com"sv,
                                      "\xc0\xae.com"sv,
                                      "a\xe3\x80\x82"
                                      "com"sv /* ideographic full stop */,
                                      "\xef\xbd\x81.com"sv /* full-width a */,
                                      "a\xe2\x80\x8b.com"sv /* zero width space */,
                                      "xn--.com"sv,
                                      "[::1]"sv,
                                      "\xc3\x9c.com"sv /* capital U umlaut */}) {
    EXPECT_EQ(canonical(text), "refused") << text;
  }
  EXPECT_EQ(canonical(std::string(64, 'a')), "refused");
  EXPECT_NE(canonical(std::string(63, 'a')), "refused");
  std::string big;
  for (int i = 0; i < 127; ++i) big += "a.";
  EXPECT_NE(canonical(big), "refused");
  EXPECT_EQ(canonical(big + "a"), "refused");
}

TEST(Hostname, IsUnder_WholeLabelsOnly) {
  const Hostname apex = *Hostname::parse("example.com");
  EXPECT_TRUE(Hostname::parse("example.com")->is_under(apex));
  EXPECT_TRUE(Hostname::parse("a.b.example.com")->is_under(apex));
  EXPECT_FALSE(Hostname::parse("badexample.com")->is_under(apex));
  EXPECT_FALSE(Hostname::parse("com")->is_under(apex));
}

}  // namespace
}  // namespace msb
