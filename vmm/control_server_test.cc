// SPDX-License-Identifier: Apache-2.0
#include "vmm/control_server.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <optional>

#include "base/socket.h"
#include "proto/agent.h"

namespace msb::vmm {
namespace {

using proto::FrameType;

class ControlServerTest : public ::testing::Test, private ControlServer::Handler {
 protected:
  void SetUp() override {
    char path[] = "/tmp/msb-control-XXXXXX";
    ASSERT_NE(::mkdtemp(path), nullptr);
    path_ = path;
    directory_ = UniqueFd(::open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    UniqueFd listener = listen_unix(directory_.get(), "control.sock").value();
    ASSERT_TRUE(set_nonblocking(listener.get(), true));
    server_ = ControlServer::open(*loop_, std::move(listener), *this).value();
  }
  void TearDown() override {
    server_.reset();
    ::unlinkat(directory_.get(), "control.sock", 0);
    ::rmdir(path_.c_str());
  }

  // A connected client that has asked for `op`.
  UniqueFd client(const std::string& op) {
    UniqueFd fd = connect_unix(directory_.get(), "control.sock").value();
    EXPECT_TRUE(set_nonblocking(fd.get(), true));
    Bytes out;
    proto::append_frame(out, FrameType::kHello, R"({"version":1,"min":1,"agent":"test"})");
    proto::append_frame(out, FrameType::kRequest, R"({"op":")" + op + "\"}");
    EXPECT_EQ(::send(fd.get(), out.data(), out.size(), MSG_NOSIGNAL), static_cast<ssize_t>(out.size()));
    turn();
    return fd;
  }
  void turn() {
    for (int i = 0; i < 4; ++i) EXPECT_TRUE(loop_->run_once(Duration{0}));
  }
  // How many frames of `type` came since the last call; nullopt once the server has closed and all is read.
  std::optional<int> heard(const UniqueFd& fd, proto::FrameDecoder& decoder, FrameType type) {
    int count = 0;
    Bytes buffer(65536);
    while (true) {
      const ssize_t got = ::recv(fd.get(), buffer.data(), buffer.size(), 0);
      if (got < 0) return count;
      if (got == 0) return std::nullopt;
      ByteView input = ByteView(buffer).first(static_cast<std::size_t>(got));
      while (auto frame = decoder.next(input).value()) count += frame->type() == type ? 1 : 0;
    }
  }

  std::unique_ptr<EventLoop> loop_ = std::move(EventLoop::create()).value();
  std::unique_ptr<ControlServer> server_;

 private:
  std::string status_json() override { return "{}"; }
  void stop_asked(const proto::ControlRequest&) override {}
  void kill_asked() override {}
  Status pause_asked(bool) override { return {}; }
  void touched() override {}
  Status net_asked(std::uint64_t, const std::string&) override { return {}; }

  std::string path_;
  UniqueFd directory_;
};

TEST_F(ControlServerTest, Events_OneWhoDoesNotReadIsClosedAndNobodyElseMissesOne) {
  const UniqueFd first = client("events");
  const UniqueFd lazy = client("events");
  const UniqueFd last = client("events");
  proto::FrameDecoder first_decoder;
  proto::FrameDecoder last_decoder;
  int first_heard = 0;
  int last_heard = 0;
  constexpr int kEvents = 200'000;
  for (int i = 1; i <= kEvents; ++i) {
    server_->announce_oom(static_cast<std::uint64_t>(i));
    if (i % 500 != 0) continue;
    turn();
    first_heard += heard(first, first_decoder, FrameType::kEvent).value();
    last_heard += heard(last, last_decoder, FrameType::kEvent).value();
  }
  for (int i = 0; i < 100; ++i) {  // what a socket did not take at once
    turn();
    first_heard += heard(first, first_decoder, FrameType::kEvent).value();
    last_heard += heard(last, last_decoder, FrameType::kEvent).value();
  }
  EXPECT_EQ(first_heard, kEvents);
  EXPECT_EQ(last_heard, kEvents);
  proto::FrameDecoder lazy_decoder;
  EXPECT_EQ(heard(lazy, lazy_decoder, FrameType::kEvent), std::nullopt);
}

TEST_F(ControlServerTest, End_AnswersWhoWaitsOnce) {
  const UniqueFd waits = client("wait");
  const UniqueFd stops = client("stop");
  const UniqueFd asks = client("status");
  server_->ended("{}");
  server_->ended("{}");
  turn();
  for (const UniqueFd* fd : {&waits, &stops, &asks}) {
    proto::FrameDecoder decoder;
    EXPECT_EQ(heard(*fd, decoder, FrameType::kReply), 1);
  }
}

}  // namespace
}  // namespace msb::vmm
