// SPDX-License-Identifier: Apache-2.0
#include "base/subprocess.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>

#include "base/file.h"

namespace msb {
namespace {

TEST(SpawnTest, ExitCodeAndSignal_AreExact) {
  auto child = spawn({.path = "/bin/sh", .argv = {"sh", "-c", "exit 7"}, .env = {}});
  ASSERT_TRUE(child.ok());
  EXPECT_EQ(child->wait()->code, 7);
  child = spawn({.path = "/bin/sh", .argv = {"sh", "-c", "kill -9 $$"}, .env = {}});
  ASSERT_TRUE(child.ok());
  EXPECT_EQ(child->wait()->signal, SIGKILL);
}

TEST(SpawnTest, MissingProgram_IsNotFound) {
  const auto child = spawn({.path = "/nonexistent/x", .argv = {"x"}, .env = {}});
  ASSERT_FALSE(child.ok());
  EXPECT_EQ(child.error().code, Errc::kNotFound);
}

TEST(SpawnTest, OnlyMappedDescriptors_ReachTheChild) {
  int out[2];
  ASSERT_EQ(::pipe2(out, O_CLOEXEC), 0);
  const UniqueFd reader(out[0]);
  UniqueFd writer(out[1]);
  const UniqueFd leaked(::open("/dev/null", O_RDONLY));  // NOLINT: deliberately without close-on-exec
  auto child = spawn({.path = "/bin/sh",
                      .argv = {"sh", "-c", "ls /proc/self/fd | tr '\\n' ' '; echo; echo seven >&7"},
                      .env = {"PATH=/usr/bin:/bin"},
                      .fds = {{writer.get(), 1}, {writer.get(), 7}}});
  ASSERT_TRUE(child.ok());
  writer.reset();
  // ls itself opens 3 for the listing.
  EXPECT_EQ(read_all(reader.get(), 4096).value(), "0 1 2 3 7 \nseven\n");
  EXPECT_TRUE(child->wait()->success());
}

TEST(SpawnTest, Wait_WithTimeout_TimesOut) {
  auto child = spawn({.path = "/bin/sleep", .argv = {"sleep", "1000"}, .env = {}});
  ASSERT_TRUE(child.ok());
  EXPECT_EQ(child->wait(Duration{1}).error().code, Errc::kTimeout);
  ASSERT_TRUE(child->send_signal(SIGKILL).ok());
  EXPECT_EQ(child->wait()->signal, SIGKILL);
}

}  // namespace
}  // namespace msb
