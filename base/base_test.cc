// SPDX-License-Identifier: Apache-2.0
// Result, bytes, base64, files, sockets: the small parts of base together.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <thread>

#include "base/base64.h"
#include "base/bytes.h"
#include "base/file.h"
#include "base/file_lock.h"
#include "base/log.h"
#include "base/result.h"
#include "base/socket.h"

namespace msb {
namespace {

class TempDir {
 public:
  TempDir() {
    char name[] = "/tmp/msb-base-XXXXXX";
    path_ = ::mkdtemp(name);
    fd_.reset(::open(path_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  }
  ~TempDir() { (void)remove_tree(AT_FDCWD, path_).ok(); }
  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] int fd() const { return fd_.get(); }

 private:
  std::string path_;
  UniqueFd fd_;
};

Result<int> half(int value) {
  if (value % 2 != 0) return make_error(Errc::kInvalid, "%d is odd", value);
  return value / 2;
}
Result<int> quarter(int value) {
  MSB_ASSIGN(const int once, half(value));
  return half(once).with_context("second half");
}

TEST(ResultTest, ErrorsTravelUpWithContext) {
  EXPECT_EQ(quarter(8).value(), 2);
  EXPECT_EQ(quarter(6).error().text, "second half: 3 is odd");
  EXPECT_EQ(quarter(5).error().code, Errc::kInvalid);
}

TEST(ResultTest, SystemErrors_MapTheirErrno) {
  EXPECT_EQ(sys_error("open x", ENOENT).code, Errc::kNotFound);
  EXPECT_EQ(sys_error("open x", ENOENT).text, "open x: No such file or directory");
  EXPECT_EQ(sys_error("write x", ENOSPC).code, Errc::kNoSpace);
}

TEST(ByteReaderTest, PastTheEnd_LeavesTheCursor) {
  const Bytes data{1, 2, 3};
  ByteReader reader(data);
  EXPECT_EQ(reader.take<Le16>()->get(), 0x0201);
  EXPECT_FALSE(reader.take<Le16>().has_value());
  EXPECT_EQ(reader.take_u8(), 3);
  EXPECT_TRUE(reader.empty());
}

TEST(WireTest, ByteOrders) {
  ByteWriter writer;
  writer.put(Be32{0x01020304});
  writer.put(Le32{0x01020304});
  EXPECT_EQ(hex_encode(writer.view()), "0102030404030201");
}

TEST(Base64Test, RoundTripAndStrictness) {
  EXPECT_EQ(base64_encode(as_bytes("fo")), "Zm8=");
  EXPECT_EQ(as_text(*base64_decode("Zm9v")), "foo");
  EXPECT_FALSE(base64_decode("Zm9").has_value());
  EXPECT_FALSE(base64_decode("Zm9=").has_value());  // stray bits
  EXPECT_FALSE(base64_decode("Z===").has_value());
  EXPECT_FALSE(base64_decode("=m9v").has_value());
  EXPECT_FALSE(base64_decode("Zm8=Zm9v").has_value());
}

TEST(FileTest, AtomicWrite_ReplacesAndLeavesNothingElse) {
  const TempDir dir;
  ASSERT_TRUE(write_file_atomic(dir.fd(), "state", "one").ok());
  ASSERT_TRUE(write_file_atomic(dir.fd(), "state", "two").ok());
  EXPECT_EQ(read_file(dir.path() + "/state", 16).value(), "two");
  ASSERT_EQ(::unlinkat(dir.fd(), "state", 0), 0);
  EXPECT_EQ(::rmdir(dir.path().c_str()), 0);  // empty: no temporary file stayed
}

TEST(FileTest, ReadFile_BeyondTheCap_IsLimit) {
  const TempDir dir;
  ASSERT_TRUE(write_file_atomic(dir.fd(), "f", "12345").ok());
  EXPECT_EQ(read_file(dir.path() + "/f", 4).error().code, Errc::kLimit);
}

TEST(FileTest, RemoveTree_DoesNotFollowLinks) {
  const TempDir dir;
  const TempDir outside;
  ASSERT_TRUE(write_file_atomic(outside.fd(), "keep", "x").ok());
  ASSERT_TRUE(make_directories(dir.path() + "/a/b").ok());
  ASSERT_EQ(::symlink(outside.path().c_str(), (dir.path() + "/a/b/link").c_str()), 0);
  ASSERT_TRUE(remove_tree(dir.fd(), "a").ok());
  EXPECT_TRUE(read_file(outside.path() + "/keep", 8).ok());
  EXPECT_NE(::access((dir.path() + "/a").c_str(), F_OK), 0);
}

TEST(FileTest, HideTree_FreesTheNameAndKeepsWhatItHeld) {
  const TempDir dir;
  ASSERT_TRUE(make_directories(dir.path() + "/a").ok());
  const auto hidden = hide_tree(dir.fd(), "a");
  ASSERT_TRUE(hidden.ok()) << hidden.error().text;
  EXPECT_TRUE(hidden->starts_with(".rm-a-"));
  EXPECT_NE(::access((dir.path() + "/a").c_str(), F_OK), 0);
  EXPECT_EQ(::access((dir.path() + "/" + *hidden).c_str(), F_OK), 0);
  EXPECT_EQ(hide_tree(dir.fd(), "a").error().sys_errno, ENOENT);
}

TEST(FileLockTest, LockExclusively_GivesUpAtTheDeadlineAndHasItOnceItIsFree) {
  const TempDir dir;
  auto first = open_at(dir.fd(), "lock", O_RDWR | O_CREAT);
  const auto second = open_at(dir.fd(), "lock", O_RDWR);
  ASSERT_TRUE(first.ok() && second.ok());
  const Instant past{0};
  EXPECT_TRUE(lock_exclusively(first->get(), past).value());
  EXPECT_FALSE(lock_exclusively(second->get(), past).value());
  EXPECT_FALSE(lock_exclusively(second->get(), SteadyClock().now() + std::chrono::milliseconds(5)).value());
  std::thread holder([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    first->reset();
  });
  EXPECT_TRUE(lock_exclusively(second->get(), std::nullopt).value());
  holder.join();
  EXPECT_FALSE(lock_exclusively(-1, past).ok());
}

TEST(SocketTest, ListenAndConnect_InAVeryLongDirectory) {
  const TempDir dir;
  const std::string deep = dir.path() + "/" + std::string(200, 'd');
  ASSERT_TRUE(make_directories(deep).ok());
  const UniqueFd fd(::open(deep.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  auto listener = listen_unix(fd.get(), "s.sock");
  ASSERT_TRUE(listener.ok());
  struct stat info {};
  ASSERT_EQ(::fstatat(fd.get(), "s.sock", &info, 0), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600U);
  EXPECT_TRUE(connect_unix(fd.get(), "s.sock").ok());
}

TEST(SocketTest, DescriptorsTravel) {
  auto pair = socket_pair(SOCK_SEQPACKET);
  ASSERT_TRUE(pair.ok());
  int pipe_fds[2];
  ASSERT_EQ(::pipe2(pipe_fds, O_CLOEXEC), 0);
  const UniqueFd reader(pipe_fds[0]);
  {
    const UniqueFd writer(pipe_fds[1]);
    const int fds[] = {writer.get()};
    ASSERT_TRUE(send_with_fds(pair->first.get(), as_bytes("hello"), fds).ok());
  }
  auto message = receive_with_fds(pair->second.get(), 64);
  ASSERT_TRUE(message.ok());
  EXPECT_EQ(as_text(message->data), "hello");
  ASSERT_EQ(message->fds.size(), 1U);
  EXPECT_TRUE(write_all(message->fds[0].get(), "x").ok());
  message->fds.clear();
  EXPECT_EQ(read_all(reader.get(), 16).value(), "x");
}

TEST(LogTest, UntrustedBytes_ArePrintable) { EXPECT_EQ(quote_for_log("a\x1b[31m\\"), "a\\x1b[31m\\x5c"); }

}  // namespace
}  // namespace msb
