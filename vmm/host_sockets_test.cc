// SPDX-License-Identifier: Apache-2.0
#include "vmm/host_sockets.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <string>

#include "base/file.h"
#include "base/socket.h"

namespace msb::vmm {
namespace {

class HostSocketsTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = testing::TempDir() + "host-sockets-XXXXXX";
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    path_ = name;
    directory_ = open_file(path_, O_PATH | O_DIRECTORY).value();
  }
  void TearDown() override { std::filesystem::remove_all(path_); }
  [[nodiscard]] HostSockets expose(const std::string& name) const {
    return HostSockets({{5000, path_ + "/" + name}});
  }

  std::string path_;
  UniqueFd directory_;
};

TEST_F(HostSocketsTest, ReachesWhatIsNamedAndNothingElse) {
  const UniqueFd listener = listen_unix(directory_.get(), "service").value();
  HostSockets sockets = expose("service");
  const Result<UniqueFd> socket = sockets.connect(5000);
  ASSERT_TRUE(socket) << socket.error().text;
  EXPECT_NE(::fcntl(socket->get(), F_GETFL) & O_NONBLOCK, 0);
  for (const std::uint32_t port : {0U, 1U, 1024U, 4999U, 5001U, UINT32_MAX}) {
    const Result<UniqueFd> other = sockets.connect(port);
    ASSERT_FALSE(other) << port;
    EXPECT_EQ(other.error().code, Errc::kNotFound);
  }
}

TEST_F(HostSocketsTest, AServiceMayComeLaterAndComeBack) {
  HostSockets sockets = expose("service");
  EXPECT_FALSE(sockets.connect(5000));
  UniqueFd listener = listen_unix(directory_.get(), "service").value();
  EXPECT_TRUE(sockets.connect(5000));
  listener.reset();
  EXPECT_FALSE(sockets.connect(5000));
  listener = listen_unix(directory_.get(), "service").value();
  EXPECT_TRUE(sockets.connect(5000));
}

TEST_F(HostSocketsTest, AServiceThatDoesNotAcceptIsAnErrorNotAWait) {
  const UniqueFd listener = listen_unix(directory_.get(), "service", 0).value();
  HostSockets sockets = expose("service");
  std::vector<UniqueFd> held;
  for (int i = 0; i < 8; ++i) {
    Result<UniqueFd> socket = sockets.connect(5000);
    if (!socket) {
      EXPECT_EQ(socket.error().sys_errno, EAGAIN);
      return;
    }
    held.push_back(std::move(socket).value());
  }
  ADD_FAILURE() << "a backlog of none took 8 connections";
}

TEST_F(HostSocketsTest, AFileThatIsNoSocketIsRefused) {
  ASSERT_TRUE(write_all(open_at(directory_.get(), "file", O_WRONLY | O_CREAT).value().get(), "x"));
  EXPECT_FALSE(expose("file").connect(5000));
}

}  // namespace
}  // namespace msb::vmm
