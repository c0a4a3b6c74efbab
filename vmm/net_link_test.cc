// SPDX-License-Identifier: Apache-2.0
// The test plays msb-net at the other end of the control socket and of the audit pipe.
#include "vmm/net_link.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <filesystem>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/json.h"
#include "base/socket.h"
#include "proto/net_spec.h"

namespace msb::vmm {
namespace {

using proto::FrameType;

class NetLinkTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = testing::TempDir() + "net-link-XXXXXX";
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    path_ = name;
    directory_ = open_file(path_, O_PATH | O_DIRECTORY).value();
    loop_ = EventLoop::create().value();
    auto [ours, theirs] = socket_pair(SOCK_STREAM).value();
    msb_net_ = std::move(theirs);
    std::array<int, 2> ends{};
    ASSERT_EQ(::pipe2(ends.data(), O_CLOEXEC | O_NONBLOCK), 0);
    audit_ = UniqueFd(ends[1]);
    link_ = NetLink::open(*loop_, std::move(ours), UniqueFd(ends[0]),
                          RotatedFile::open(directory_.get(), "audit.log", 1 << 20, 2).value())
                .value();
  }
  void TearDown() override { std::filesystem::remove_all(path_); }

  void say(FrameType type, std::string_view payload) {
    Bytes out;
    proto::append_frame(out, type, payload);
    ASSERT_EQ(::send(msb_net_.get(), out.data(), out.size(), MSG_NOSIGNAL), static_cast<ssize_t>(out.size()));
  }
  void run() {
    for (int i = 0; i < 10; ++i) ASSERT_TRUE(loop_->run_once(std::chrono::milliseconds(2)));
  }
  // The requests that have reached msb-net.
  std::vector<std::string> heard() {
    std::vector<std::string> out;
    std::array<std::uint8_t, 65536> buffer{};
    const ssize_t got = ::recv(msb_net_.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
    if (got <= 0) return out;
    ByteView input = ByteView(buffer).first(static_cast<std::size_t>(got));
    while (true) {
      auto frame = decoder_.next(input);
      if (!frame || !frame->has_value()) return out;
      out.emplace_back(as_text((*frame)->payload));
    }
  }

  std::string path_;
  UniqueFd directory_;
  std::unique_ptr<EventLoop> loop_;
  UniqueFd msb_net_;
  UniqueFd audit_;
  std::unique_ptr<NetLink> link_;
  proto::FrameDecoder decoder_;
};

TEST_F(NetLinkTest, AuditLinesAreWrittenWhole) {
  const std::string first = "{\"a\":1}\n{\"b\"";
  const std::string rest = ":2}\n";
  ASSERT_EQ(::write(audit_.get(), first.data(), first.size()), static_cast<ssize_t>(first.size()));
  run();
  EXPECT_EQ(read_file(path_ + "/audit.log", 1000).value(), "{\"a\":1}\n");
  ASSERT_EQ(::write(audit_.get(), rest.data(), rest.size()), static_cast<ssize_t>(rest.size()));
  run();
  EXPECT_EQ(read_file(path_ + "/audit.log", 1000).value(), "{\"a\":1}\n{\"b\":2}\n");
}

TEST_F(NetLinkTest, AnswersComeInOrderAndOnlyToQuestions) {
  std::vector<std::string> answers;
  say(FrameType::kReply, "{}");  // to nothing
  run();
  for (const char* op : {"first", "second"})
    link_->ask(op, [&answers](FrameType type, std::string_view payload) {
      answers.push_back((type == FrameType::kReply ? "reply " : "error ") + std::string(payload));
    });
  run();
  EXPECT_EQ(heard(), (std::vector<std::string>{"first", "second"}));
  say(FrameType::kReply, "1");
  say(FrameType::kError, "2");
  run();
  EXPECT_EQ(answers, (std::vector<std::string>{"reply 1", "error 2"}));
}

TEST_F(NetLinkTest, ResolvConfIsToldWhenItIsAskedForAndNotTwice) {
  const auto text = read_file("/etc/resolv.conf", proto::kMaxResolvConf);
  if (!text || text->empty()) GTEST_SKIP() << "this host has no resolv.conf";
  say(FrameType::kReady, "{}");
  run();
  EXPECT_TRUE(heard().empty());
  say(FrameType::kEvent, R"({"event":"resolv_conf"})");
  say(FrameType::kEvent, R"({"event":"resolv_conf"})");
  run();
  const std::vector<std::string> requests = heard();
  ASSERT_EQ(requests.size(), 1U);
  const JsonDocument request = JsonDocument::parse(requests[0]).value();
  EXPECT_EQ(request.root().get_string("op").value(), "resolv_conf");
  EXPECT_EQ(request.root().get_string("text").value(), *text);
}

}  // namespace
}  // namespace msb::vmm
