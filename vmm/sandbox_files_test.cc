// SPDX-License-Identifier: Apache-2.0
#include "vmm/sandbox_files.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <string>
#include <thread>

#include "base/file.h"

namespace msb::vmm {
namespace {

class SandboxFilesTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = ::testing::TempDir() + "msb-files-XXXXXX";
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    top_ = pattern;
    spec_.name = "box";
    spec_.dir = top_ + "/box";
    ASSERT_EQ(::mkdir(spec_.dir.c_str(), 0700), 0);
  }
  void TearDown() override { EXPECT_TRUE(remove_tree(AT_FDCWD, top_).ok()); }

  // Holds the sandbox's lock, as a machine that is dying does.
  UniqueFd hold() {
    auto fd = open_file(spec_.dir + "/lock", O_RDWR | O_CREAT);
    EXPECT_TRUE(fd.ok());
    EXPECT_EQ(::flock(fd->get(), LOCK_EX | LOCK_NB), 0);
    return std::move(fd).value();
  }

  std::string top_;
  proto::VmSpec spec_;
};

TEST_F(SandboxFilesTest, WaitsForALockThatComesFreeSoon) {
  UniqueFd held = hold();
  std::thread last_run([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(150));
    held.reset();
  });
  const auto files = open_sandbox(spec_);
  last_run.join();
  ASSERT_TRUE(files.ok()) << files.error().text;
  const auto other = open_file(spec_.dir + "/lock", O_RDWR);
  ASSERT_TRUE(other.ok());
  EXPECT_NE(::flock(other->get(), LOCK_EX | LOCK_NB), 0) << "it holds the lock now";
}

TEST_F(SandboxFilesTest, SaysBusyWhenTheLockIsKept) {
  const UniqueFd held = hold();
  const auto files = open_sandbox(spec_);
  ASSERT_FALSE(files.ok());
  EXPECT_EQ(files.error().code, Errc::kBusy);
}

TEST_F(SandboxFilesTest, HidesAndRemovesAnEphemeralSandbox) {
  ASSERT_TRUE(open_sandbox(spec_).ok());
  const auto hidden = hide_sandbox(spec_.dir);
  ASSERT_TRUE(hidden.ok()) << hidden.error().text;
  EXPECT_TRUE(hidden->starts_with(top_ + "/.rm-box-"));
  EXPECT_NE(::access(spec_.dir.c_str(), F_OK), 0);
  ASSERT_TRUE(remove_sandbox(*hidden).ok());
  EXPECT_NE(::access(hidden->c_str(), F_OK), 0);
  EXPECT_EQ(hide_sandbox(spec_.dir).error().sys_errno, ENOENT);
}

}  // namespace
}  // namespace msb::vmm
