// SPDX-License-Identifier: Apache-2.0
#include "base/subprocess.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "base/file.h"
#include "base/socket.h"

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

TEST(SpawnOrphan, EndsWithoutBecomingOurs) {
  auto pair = socket_pair(SOCK_STREAM);
  ASSERT_TRUE(pair.ok());
  auto orphan = spawn_orphan({.path = "/bin/sh",
                              .argv = {"sh", "-c", "echo hello >&5"},
                              .env = {},
                              .fds = {{pair->second.get(), 5}},
                              .new_session = true});
  ASSERT_TRUE(orphan.ok()) << orphan.error().text;
  pair->second.reset();
  EXPECT_EQ(*read_all(pair->first.get(), 100), "hello\n");
  pollfd ended{orphan->pidfd.get(), POLLIN, 0};
  EXPECT_EQ(::poll(&ended, 1, 10'000), 1);
  EXPECT_EQ(::waitpid(-1, nullptr, WNOHANG | __WALL), -1);  // no child of ours, dead or alive
  EXPECT_EQ(errno, ECHILD);
}

TEST(SpawnOrphan, ReportsWhatExecveSaid) {
  const auto orphan = spawn_orphan({.path = "/does/not/exist", .argv = {"x"}, .env = {}});
  ASSERT_FALSE(orphan.ok());
  EXPECT_EQ(orphan.error().code, Errc::kNotFound);
}

}  // namespace
}  // namespace msb
