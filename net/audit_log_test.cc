// SPDX-License-Identifier: Apache-2.0
#include "net/audit_log.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <ctime>
#include <regex>
#include <string>

namespace msb::net {
namespace {

class AuditLogTest : public testing::Test {
 protected:
  void SetUp() override {
    loop_ = EventLoop::create().value();
    std::array<int, 2> ends{};
    ASSERT_EQ(::pipe2(ends.data(), O_CLOEXEC | O_NONBLOCK), 0);
    reader_ = UniqueFd(ends[0]);
    log_ = std::make_unique<AuditLog>(*loop_, UniqueFd(ends[1]));
  }
  // What can be read now.
  std::string read_pipe() {
    std::string out;
    std::array<char, 4096> buffer{};
    for (ssize_t got = 0; (got = ::read(reader_.get(), buffer.data(), buffer.size())) > 0;)
      out.append(buffer.data(), static_cast<std::size_t>(got));
    return out;
  }

  std::unique_ptr<EventLoop> loop_;
  UniqueFd reader_;
  std::unique_ptr<AuditLog> log_;
};

TEST_F(AuditLogTest, LinesGoOutTogetherAfterAMoment) {
  log_->append("one");
  log_->append("two");
  EXPECT_EQ(read_pipe(), "");
  ASSERT_TRUE(loop_->run_once(std::nullopt));  // until its timer
  EXPECT_EQ(read_pipe(), "one\ntwo\n");
  log_->append("three");
  log_->flush();
  EXPECT_EQ(read_pipe(), "three\n");
  log_->append("four");
  log_.reset();
  EXPECT_EQ(read_pipe(), "four\n");
}

TEST_F(AuditLogTest, AFullPipeCostsWholeLinesAndCountsThem) {
  const std::string line(999, 'x');
  constexpr int kLines = 1000;
  for (int i = 0; i < kLines; ++i) log_->append(line);
  EXPECT_GT(log_->lost(), 0U);
  std::string got;
  for (std::string more = read_pipe(); !more.empty(); more = read_pipe()) {
    got += more;
    log_->flush();
  }
  EXPECT_EQ(got.size() % 1000, 0U);
  EXPECT_EQ(got.size() / 1000 + log_->lost(), static_cast<std::size_t>(kLines));
  for (std::size_t at = 0; at < got.size(); at += 1000) ASSERT_EQ(got.substr(at, 1000), line + "\n");
}

TEST_F(AuditLogTest, LinesForNobodyAreLostAndCounted) {
  reader_.reset();
  std::signal(SIGPIPE, SIG_IGN);
  log_->append("one");
  log_->append("two");
  log_->flush();
  EXPECT_EQ(log_->lost(), 2U);
}

TEST_F(AuditLogTest, TheTimeIsOfTheDayInUtc) {
  const std::int64_t before = wall_clock_ns() / 1'000'000;
  const std::string text(log_->now());
  const std::int64_t after = wall_clock_ns() / 1'000'000;
  ASSERT_TRUE(std::regex_match(text, std::regex(R"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z)"))) << text;
  std::tm parts{};
  ASSERT_NE(::strptime(text.c_str(), "%Y-%m-%dT%H:%M:%S", &parts), nullptr);
  const std::int64_t told = std::int64_t{::timegm(&parts)} * 1000 + std::stoi(text.substr(20, 3));
  EXPECT_GE(told, before);
  EXPECT_LE(told, after);
}

}  // namespace
}  // namespace msb::net
