// SPDX-License-Identifier: Apache-2.0
#include "tools/msb/args.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>

#include "base/file.h"
#include "tools/msb/cli.h"
#include "tools/msb/log_reader.h"

namespace msb::cli {
namespace {

constexpr std::array<Option, 4> kOptions = {{{1, "quiet", 'q', "", "x"},
                                             {2, "name", 'n', "NAME", "x"},
                                             {3, "env", 'e', "KEY", "x"},
                                             {4, "hidden", 0, "", ""}}};

Result<Parsed> parse(std::vector<std::string_view> words, Words style = Words::kOptionsAnywhere) {
  const std::array<std::span<const Option>, 1> tables = {kOptions};
  return parse_args(words, tables, style);
}

TEST(Args, EverySpelling) {
  for (const auto& words : std::vector<std::vector<std::string_view>>{
           {"--name", "x"}, {"--name=x"}, {"-n", "x"}, {"-nx"}, {"-n=x"}, {"-qn", "x"}, {"-qnx"}}) {
    const auto parsed = parse(words);
    ASSERT_TRUE(parsed.ok()) << words.front();
    EXPECT_EQ(parsed->last(2), "x") << words.front();
  }
  EXPECT_EQ(parse({"--name="})->last(2, "fallback"), "");
  EXPECT_EQ(parse({"-e", "a", "--env", "b"})->all(3), (std::vector<std::string_view>{"a", "b"}));
  EXPECT_EQ(parse({"a", "-q", "b", "--", "-n"})->positionals,
            (std::vector<std::string_view>{"a", "b", "-n"}));
  EXPECT_EQ(parse({"-"})->positionals.size(), 1U);
}

TEST(Args, CommandsAreTakenVerbatim) {
  const auto plain = parse({"-q", "image", "-n", "x", "ls", "-n", "--bogus"}, Words::kCommandLast);
  ASSERT_TRUE(plain.ok());
  EXPECT_EQ(plain->last(2), "x");
  EXPECT_EQ(plain->command, (std::vector<std::string_view>{"ls", "-n", "--bogus"}));
  const auto dashes = parse({"image", "--", "-q", "--"}, Words::kCommandLast);
  EXPECT_EQ(dashes->command, (std::vector<std::string_view>{"-q", "--"}));
  EXPECT_TRUE(parse({"--", "x"}, Words::kCommandLast)->positionals.empty());
}

TEST(Args, MistakesAreNamed) {
  EXPECT_NE(parse({"--nmae", "x"}).error().text.find("did you mean --name?"), std::string::npos);
  EXPECT_NE(parse({"--name"}).error().text.find("needs a value"), std::string::npos);
  EXPECT_NE(parse({"-n"}).error().text.find("needs a value"), std::string::npos);
  EXPECT_NE(parse({"--quiet=1"}).error().text.find("takes no value"), std::string::npos);
  EXPECT_FALSE(parse({"-z"}).ok());
}

TEST(Args, NearestWord) {
  const std::array<std::string_view, 4> words = {"run", "restart", "inspect", "exec"};
  EXPECT_EQ(nearest("rnu", words), "run");
  EXPECT_EQ(nearest("inspcet", words), "inspect");
  EXPECT_EQ(nearest("insp", words), "inspect");
  EXPECT_EQ(nearest("zzzz", words), "");
}

TEST(Output, TablesAlignAndShorten) {
  EXPECT_EQ(format_table({{"A", "B"}, {"\u00fcx", "y"}}, {}), "A   B\n\u00fcx  y\n");
  EXPECT_EQ(format_table({{"abcdef"}}, {4}), "abc\u2026\n");
  EXPECT_EQ(printable("a\033[31m\n\xff\u00e9\u0085"), "a\\x1b[31m\\x0a\\xff\u00e9\\xc2\\x85");
}

TEST(Output, RelativeTimes) {
  constexpr std::int64_t kSecond = 1'000'000'000;
  EXPECT_EQ(relative_time(0, kSecond), "never");
  EXPECT_EQ(relative_time(kSecond, 2 * kSecond), "just now");
  EXPECT_EQ(relative_time(kSecond, 61 * kSecond), "1 minute ago");
  EXPECT_EQ(relative_time(kSecond, 7300 * kSecond), "2 hours ago");
}

TEST(LogLine, ReadsTextBytesAndEnds) {
  const auto text = parse_log_line(R"({"t":1777629600123000000,"s":"err","id":3,"d":"hi\n"})");
  ASSERT_TRUE(text.ok());
  EXPECT_EQ(text->source, "stderr");
  EXPECT_EQ(text->data, "hi\n");
  EXPECT_EQ(text->time, "2026-05-01T10:00:00.123000Z");
  const auto bytes = parse_log_line(R"({"t":1,"s":"out","id":3,"d64":"/w==","x":7})");
  ASSERT_TRUE(bytes.ok());
  EXPECT_EQ(bytes->data, "\xff");
  EXPECT_EQ(bytes->lost, 7U);
  EXPECT_NE(log_entry_json(*bytes).find("\"e\":\"b64\""), std::string::npos);
  const auto end = parse_log_line(R"({"t":1,"id":3,"e":{"code":2}})");
  ASSERT_TRUE(end.ok());
  EXPECT_EQ(end->data, "session 3 ended with code 2\n");
  for (const char* line : {"", "[]", "x", R"({"d64":"?"})", R"({"t":"x"})"})
    EXPECT_FALSE(parse_log_line(line).ok()) << line;
}

TEST(LogFile, FollowsThroughRotation) {
  char pattern[] = "/tmp/msb-log-test-XXXXXX";
  const std::string path = ::mkdtemp(&pattern[0]);
  auto directory = open_file(path, O_RDONLY | O_DIRECTORY);
  ASSERT_TRUE(directory.ok());
  const int dir = directory->get();
  const auto append = [&](const char* name, std::string_view text) {
    const auto fd = open_at(dir, name, O_WRONLY | O_CREAT | O_APPEND);
    ASSERT_TRUE(write_all(fd->get(), text).ok());
  };
  append("x.log.1", "old\n");
  append("x.log", "one\ntw");
  LogFile log(dir, "x.log");
  EXPECT_EQ(*log.read_new(), (std::vector<std::string>{"old", "one"}));
  append("x.log", "o\nthree\n");
  ASSERT_EQ(::renameat(dir, "x.log", dir, "x.log.1"), 0);
  append("x.log", "four\n");
  EXPECT_EQ(*log.read_new(), (std::vector<std::string>{"two", "three", "four"}));
  append("x.log", "rest");
  EXPECT_TRUE(log.read_new()->empty());
  EXPECT_EQ(log.take_partial(), "rest");
  auto parent = open_file("/tmp", O_RDONLY | O_DIRECTORY);
  ASSERT_TRUE(remove_tree(parent->get(), path.substr(5)).ok());
}

}  // namespace
}  // namespace msb::cli
