// SPDX-License-Identifier: Apache-2.0
#include "guest-agent/root_attributes.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include <cstdlib>

#include "base/file.h"

namespace msb::agent {
namespace {

TEST(RootAttributes, AreTakenOverOnce) {
  std::string scratch = ::testing::TempDir() + "root-attributes.XXXXXX";
  ASSERT_NE(::mkdtemp(scratch.data()), nullptr);
  const std::string from = scratch + "/from";
  const std::string to = scratch + "/to";
  ASSERT_EQ(::mkdir(from.c_str(), 0700), 0);
  ASSERT_EQ(::mkdir(to.c_str(), 0755), 0);
  ASSERT_EQ(::chmod(from.c_str(), 01751), 0);
  const bool with_xattrs = ::setxattr(from.c_str(), "user.kept", "value", 5, 0) == 0;
  const timespec times[2] = {{0, UTIME_OMIT}, {1234, 5678}};
  ASSERT_EQ(::utimensat(AT_FDCWD, from.c_str(), times, 0), 0);

  ASSERT_TRUE(copy_root_attributes(from, to, scratch + "/mark").ok());
  struct stat info {};
  ASSERT_EQ(::stat(to.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777U, 01751U);
  EXPECT_EQ(info.st_mtim.tv_sec, 1234);
  EXPECT_EQ(info.st_mtim.tv_nsec, 5678);
  char value[8] = {};
  if (with_xattrs) {
    EXPECT_EQ(::getxattr(to.c_str(), "user.kept", value, sizeof value), 5);
  }

  // What was changed since stays.
  ASSERT_EQ(::chmod(to.c_str(), 0711), 0);
  ASSERT_TRUE(copy_root_attributes(from, to, scratch + "/mark").ok());
  ASSERT_EQ(::stat(to.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777U, 0711U);
  EXPECT_TRUE(remove_tree(AT_FDCWD, scratch).ok());
}

}  // namespace
}  // namespace msb::agent
