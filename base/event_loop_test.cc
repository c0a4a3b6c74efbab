// SPDX-License-Identifier: Apache-2.0
#include "base/event_loop.h"

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <thread>

#include "base/file.h"
#include "base/socket.h"

namespace msb {
namespace {

TEST(EventLoopTest, Timers_RunInDeadlineOrder) {
  auto loop = EventLoop::create().value();
  std::vector<int> order;
  loop->add_timer_after(Duration{2'000'000}, [&] {
    order.push_back(2);
    loop->stop();
  });
  loop->add_timer_after(Duration{1'000'000}, [&] { order.push_back(1); });
  const auto cancelled = loop->add_timer_after(Duration{500'000}, [&] { order.push_back(0); });
  loop->cancel_timer(cancelled);
  ASSERT_TRUE(loop->run().ok());
  EXPECT_EQ(order, (std::vector<int>{1, 2}));
}

TEST(EventLoopTest, RemovedRegistration_HearsNoCollectedEvent) {
  auto loop = EventLoop::create().value();
  auto a = socket_pair(SOCK_STREAM).value();
  auto b = socket_pair(SOCK_STREAM).value();
  ASSERT_TRUE(write_all(a.second.get(), "x").ok());
  ASSERT_TRUE(write_all(b.second.get(), "x").ok());
  int calls = 0;
  EventLoop::IoToken token_a;
  EventLoop::IoToken token_b;
  // Both are ready in one round; whichever runs first removes both.
  const auto handler = [&](std::uint32_t) {
    ++calls;
    loop->remove(token_a);
    loop->remove(token_b);
  };
  token_a = loop->add(a.first.get(), EPOLLIN, handler).value();
  token_b = loop->add(b.first.get(), EPOLLIN, handler).value();
  ASSERT_TRUE(loop->run_once(Duration{0}).ok());
  EXPECT_EQ(calls, 1);
}

TEST(EventLoopTest, Post_FromAnotherThread_Runs) {
  auto loop = EventLoop::create().value();
  bool ran = false;
  std::thread other([&] {
    loop->post([&] {
      ran = true;
      loop->stop();
    });
  });
  ASSERT_TRUE(loop->run().ok());
  other.join();
  EXPECT_TRUE(ran);
}

TEST(EventLoopTest, ArmAndCancelForLong_DoesNotGrow) {
  auto loop = EventLoop::create().value();
  for (int i = 0; i < 100'000; ++i) loop->cancel_timer(loop->add_timer_after(std::chrono::hours(1), [] {}));
  EXPECT_TRUE(loop->run_once(Duration{0}).ok());
}

}  // namespace
}  // namespace msb
