// SPDX-License-Identifier: Apache-2.0
#include "base/json.h"

#include <gtest/gtest.h>

namespace msb {
namespace {

TEST(JsonDocumentTest, TypedAccess_ReadsWhatStandsThere) {
  auto document = JsonDocument::parse(R"({"a":"x","n":7,"neg":-3,"b":true,"l":["p","q"],"o":{"z":null}})");
  ASSERT_TRUE(document.ok());
  const JsonView root = document->root();
  EXPECT_EQ(root.get_string("a").value(), "x");
  EXPECT_EQ(root.get_uint("n").value(), 7U);
  EXPECT_EQ(root.get_int_or("neg", 0).value(), -3);
  EXPECT_TRUE(root.get_bool_or("b", false).value());
  EXPECT_EQ(root.get_strings_or_empty("l").value(), (std::vector<std::string>{"p", "q"}));
  EXPECT_FALSE(root.find("o")->find("z").has_value());
}

TEST(JsonDocumentTest, WrongType_NamesThePath) {
  auto document = JsonDocument::parse(R"({"net":{"ports":[1,"x"]}})");
  ASSERT_TRUE(document.ok());
  const auto ports = document->root().find("net")->find("ports")->elements();
  EXPECT_EQ(ports.value()[1].as_uint().error().text, "net.ports[1]: must be an integer of 0 or more");
}

TEST(JsonDocumentTest, UnknownKey_IsRefusedByName) {
  auto document = JsonDocument::parse(R"({"cpus":1,"cpu":2})");
  const Status status = document->root().only_keys({"cpus"});
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().text, "document: unknown key \"cpu\" (known: cpus)");
}

TEST(JsonDocumentTest, DeepNesting_IsRefused) {
  const std::string deep(100'000, '[');
  const auto document = JsonDocument::parse(deep);
  ASSERT_FALSE(document.ok());
  EXPECT_EQ(document.error().code, Errc::kLimit);
}

TEST(JsonDocumentTest, RepeatedKey_IsRefused) { EXPECT_FALSE(JsonDocument::parse(R"({"a":1,"a":2})").ok()); }
TEST(JsonDocumentTest, InvalidUtf8_IsRefused) { EXPECT_FALSE(JsonDocument::parse("\"\xff\"").ok()); }
TEST(JsonDocumentTest, TrailingText_IsRefused) { EXPECT_FALSE(JsonDocument::parse("{} x").ok()); }
TEST(JsonDocumentTest, Empty_IsRefused) { EXPECT_FALSE(JsonDocument::parse("").ok()); }

TEST(JsonDocumentTest, TooManyValues_IsRefused) {
  EXPECT_FALSE(JsonDocument::parse("[1,2,3,4]", {.max_values = 4}).ok());
  EXPECT_TRUE(JsonDocument::parse("[1,2,3,4]", {.max_values = 5}).ok());
}

TEST(JsonWriterTest, RoundTrip_KeepsEverything) {
  JsonWriter writer;
  writer.begin_object()
      .field("s", "a\"\\\n\x01\u00e9")
      .field("n", 18446744073709551615ULL)
      .field("i", -5)
      .field("b", true);
  writer.key("l").strings({"x", "y"}).key("e").begin_array().end_array().end_object();
  const std::string text = std::move(writer).take();
  EXPECT_EQ(text,
            "{\"s\":\"a\\\"\\\\\\n\\u0001\u00e9\",\"n\":18446744073709551615,\"i\":-5,\"b\":true,\"l\":["
            "\"x\",\"y\"],\"e\":[]}");
  auto document = JsonDocument::parse(text);
  ASSERT_TRUE(document.ok());
  EXPECT_EQ(document->root().dump(), text);
}

TEST(JsonWriterTest, InvalidUtf8_BecomesReplacementCharacter) {
  JsonWriter writer;
  writer.string("a\xff");
  EXPECT_EQ(std::move(writer).take(), "\"a\xef\xbf\xbd\"");
}

TEST(JsonNumberTest, SmallLargeAndOddOnes) {
  const std::string zeros(400, '0');
  const auto number = [](const std::string& text) {
    const auto document = JsonDocument::parse("[" + text + "]");
    if (!document.ok()) return std::string("refused");
    return document->root().dump();
  };
  EXPECT_EQ(number("0." + zeros + "e-66"), "[0.0]");  // RapidJSON's exact reading ends the process here
  EXPECT_EQ(number("0." + zeros + "1e-200"), "[0.0]");
  EXPECT_EQ(number("0e-666"), "[0.0]");
  EXPECT_EQ(number("1e-400"), "[0.0]");
  EXPECT_EQ(number("0." + zeros + "1"), "[0.0]");
  EXPECT_EQ(number("-1e400"), "refused");
  EXPECT_EQ(number("1e309"), "refused");
  EXPECT_EQ(number("3609999990001e0000297"), "refused");
  EXPECT_EQ(number("1" + zeros), "refused");
  EXPECT_EQ(number("1.5"), "[1.5]");
  EXPECT_EQ(number("-0"), "[0]");
  EXPECT_EQ(number("18446744073709551615"), "[18446744073709551615]");
  EXPECT_EQ(number("-9223372036854775808"), "[-9223372036854775808]");
  for (const char* text : {"01", "+1", ".5", "1.", "1e", "0x10", "-", "NaN"})
    EXPECT_EQ(number(text), "refused") << text;
}

TEST(Utf8Test, EdgeSequences) {
  EXPECT_TRUE(is_utf8("\xf0\x9f\x98\x80"));
  EXPECT_FALSE(is_utf8("\xed\xa0\x80"));  // surrogate
  EXPECT_FALSE(is_utf8("\xc0\x80"));      // overlong
  EXPECT_FALSE(is_utf8("\xf4\x90\x80\x80"));
  EXPECT_FALSE(is_utf8("\xe2\x82"));
}

TEST(JsonTest, StringThatIsNotUtf8_Refused) {
  for (const char* text :
       {R"("\udc00")", R"("\ud800")", R"({"\udfff":1})", "\"\xff\"", "\"\xc0\x80\"", "{\"\xe2\x82\":1}"}) {
    const auto document = JsonDocument::parse(text);
    ASSERT_FALSE(document.ok()) << text;
    EXPECT_EQ(document.error().code, Errc::kProtocol) << text;
  }
  EXPECT_TRUE(JsonDocument::parse(R"("\ud83d\ude00")").ok());
}

}  // namespace
}  // namespace msb
