// SPDX-License-Identifier: Apache-2.0
#include "vmm/main_command.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/socket.h>

#include <vector>

#include "base/file.h"
#include "base/socket.h"
#include "proto/control.h"

namespace msb::vmm {
namespace {

using proto::FrameType;

// Plays machine role and agent: it accepts on vsock.sock and answers what a test says.
class MainCommandTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char path[] = "/tmp/msb-main-XXXXXX";
    ASSERT_NE(::mkdtemp(path), nullptr);
    path_ = path;
    directory_ = open_file(path_, O_RDONLY | O_DIRECTORY).value();
    listener_ = listen_unix(directory_.get(), std::string(proto::kVsockSocketName)).value();
    log_.emplace(ExecLog::open(directory_.get(), "exec.log", 1 << 20, 1).value());
  }
  void TearDown() override {
    main_.reset();
    EXPECT_TRUE(remove_tree(AT_FDCWD, path_).ok());
  }

  void start(bool logged = true) {
    auto main = MainCommand::start(*loop_, {directory_.get(), R"({"op":"exec","argv":["x"]})", logged}, *log_,
                                   [this](Ending ending) { endings_.push_back(std::move(ending)); });
    ASSERT_TRUE(main.ok()) << main.error().text;
    main_ = std::move(main).value();
    agent_ = UniqueFd(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    ASSERT_TRUE(agent_);
    ASSERT_TRUE(write_all(agent_.get(), "OK 1024\n").ok());
  }
  void say(FrameType type, std::string_view payload) {
    Bytes out;
    proto::append_frame(out, type, payload);
    ASSERT_TRUE(write_all(agent_.get(), as_text(out)).ok());
    turn();
  }
  void turn() {
    for (int i = 0; i < 4; ++i) EXPECT_TRUE(loop_->run_once(Duration{0}));
  }
  std::string log() { return read_file(path_ + "/exec.log", 1 << 20).value(); }

  std::unique_ptr<EventLoop> loop_ = std::move(EventLoop::create()).value();
  std::string path_;
  UniqueFd directory_;
  UniqueFd listener_;
  UniqueFd agent_;
  std::optional<ExecLog> log_;
  std::unique_ptr<MainCommand> main_;
  std::vector<Ending> endings_;
};

TEST_F(MainCommandTest, Exit_IsToldOnceWithWhatItPrintedInTheLog) {
  start();
  say(FrameType::kStarted, R"({"session":7,"pid":42})");
  EXPECT_TRUE(main_->is_session(7));
  say(FrameType::kStdout, "printed");
  say(FrameType::kExit, R"({"code":3})");
  ASSERT_EQ(endings_.size(), 1U);
  EXPECT_EQ(endings_[0].reason, proto::ExitReason::kMainExited);
  EXPECT_EQ(endings_[0].exit->code, 3);
  agent_.reset();
  turn();
  EXPECT_EQ(endings_.size(), 1U) << "the end of the connection is no second end";
  EXPECT_NE(log().find(R"("d":"printed")"), std::string::npos);
  EXPECT_NE(log().find(R"("code":3)"), std::string::npos);
}

TEST_F(MainCommandTest, Unlogged_OnlyItsEndIsInTheLog) {
  start(false);
  say(FrameType::kStdout, "printed");
  say(FrameType::kStderr, "printed");
  say(FrameType::kExit, R"({"signal":9})");
  ASSERT_EQ(endings_.size(), 1U);
  EXPECT_EQ(endings_[0].exit->signal, 9);
  EXPECT_EQ(log().find("printed"), std::string::npos);
  EXPECT_NE(log().find(R"("signal":9)"), std::string::npos);
}

TEST_F(MainCommandTest, Refused_EndsWithTheCodeOfAShell) {
  for (const auto& [code, exit] :
       {std::pair{"not_found", 127}, std::pair{"not_executable", 126}, std::pair{"bad_user", 125}}) {
    endings_.clear();
    start();
    say(FrameType::kError,
        std::string(R"({"code":")") + code + R"(","errno":0,"stage":"exec","text":"no such thing"})");
    ASSERT_EQ(endings_.size(), 1U) << code;
    EXPECT_EQ(endings_[0].exit->code, exit) << code;
    EXPECT_NE(endings_[0].detail.find("no such thing"), std::string::npos);
  }
}

TEST_F(MainCommandTest, LostConnection_IsAnEndWithoutAnExit) {
  start();
  say(FrameType::kStarted, R"({"session":1,"pid":2})");
  say(FrameType::kExit, "no JSON");
  EXPECT_TRUE(endings_.empty());
  agent_.reset();
  turn();
  ASSERT_EQ(endings_.size(), 1U);
  EXPECT_EQ(endings_[0].reason, proto::ExitReason::kVmmError);
  EXPECT_FALSE(endings_[0].exit);
}

TEST_F(MainCommandTest, NobodyListens_IsAnError) {
  listener_.reset();
  auto main = MainCommand::start(*loop_, {directory_.get(), "{}", true}, *log_, [](const Ending&) {});
  EXPECT_FALSE(main.ok());
}

}  // namespace
}  // namespace msb::vmm
