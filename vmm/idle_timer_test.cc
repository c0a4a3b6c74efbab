// SPDX-License-Identifier: Apache-2.0
#include "vmm/idle_timer.h"

#include <gtest/gtest.h>

namespace msb::vmm {
namespace {

constexpr std::uint64_t kSecond = 1'000'000'000;

TEST(IdleTimer, WhatIsActivity) {
  proto::GuestInfo before;
  before.uptime_ns = 10 * kSecond;
  before.cpu_busy_ns = kSecond / 2;
  before.operations = 7;
  before.net_bytes = 90'000;
  proto::GuestInfo quiet = before;  // what an idle system costs
  quiet.uptime_ns += kSecond;
  quiet.cpu_busy_ns += kSecond / 50;
  quiet.net_bytes += 300;
  EXPECT_FALSE(was_active(before, quiet));

  proto::GuestInfo now = quiet;
  now.sessions = 1;
  EXPECT_TRUE(was_active(before, now)) << "a session";
  now = quiet;
  now.operations += 1;
  EXPECT_TRUE(was_active(before, now)) << "a request";
  now = quiet;
  now.cpu_busy_ns += kSecond / 5;
  EXPECT_TRUE(was_active(before, now)) << "work";
  now = quiet;
  now.net_bytes += 2000;
  EXPECT_TRUE(was_active(before, now)) << "traffic";
  now = quiet;
  now.net_bytes = 0;
  EXPECT_TRUE(was_active(before, now)) << "a counter that went backwards";
}

}  // namespace
}  // namespace msb::vmm
