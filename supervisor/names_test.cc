// SPDX-License-Identifier: Apache-2.0
#include "supervisor/names.h"

#include <gtest/gtest.h>

#include <csignal>

namespace msb::supervisor {
namespace {

TEST(Names, Checked) {
  for (const char* name : {"a", "A-b_c.9", "0x"}) EXPECT_TRUE(check_name(name).ok()) << name;
  for (const char* name : {"", ".a", "-a", "a/b", "a b", "\xc3\xa9", "..", "a\n"})
    EXPECT_FALSE(check_name(name).ok()) << name;
  EXPECT_FALSE(check_name(std::string(129, 'a')).ok());
  EXPECT_TRUE(check_user("1000:1000").ok());
  for (const char* user : {"", ":", "a:", ":b", "a b", "a:b:c"}) EXPECT_FALSE(check_user(user).ok()) << user;
  for (const char* path : {"", "a", "/a/../b", "/.."}) EXPECT_FALSE(check_guest_path(path).ok()) << path;
  EXPECT_TRUE(check_guest_path("/a/..b").ok());
}

TEST(Signals, NamesAndNumbers) {
  EXPECT_EQ(*parse_signal("SIGTERM"), SIGTERM);
  EXPECT_EQ(*parse_signal("term"), SIGTERM);
  EXPECT_EQ(*parse_signal("9"), 9);
  EXPECT_EQ(*parse_signal("SIGRTMIN+3"), 37);
  EXPECT_EQ(*parse_signal("RTMAX-1"), 63);
  for (const char* text : {"", "0", "65", "SIGBOGUS", "-1", "RTMIN+99"})
    EXPECT_FALSE(parse_signal(text).ok()) << text;
  for (int number = 1; number <= 64; ++number) {
    if (number == 32 || number == 33) continue;
    EXPECT_EQ(*parse_signal(signal_name(number)), number);
  }
}

}  // namespace
}  // namespace msb::supervisor
