// SPDX-License-Identifier: Apache-2.0
#include "store/redis/turn_meter.hpp"

#include <gtest/gtest.h>
#include <time.h>

#include <thread>

namespace millrace::store::redis {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;

Steady at(int seconds) {
  return Steady(std::chrono::minutes(100) + std::chrono::seconds(seconds));
}

/// Uses so much processor time, however long that takes.
void work_for(microseconds time) {
  const auto used = [] {
    timespec now{};
    ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return std::chrono::seconds(now.tv_sec) + std::chrono::nanoseconds(now.tv_nsec);
  };
  const auto until = used() + time;
  while (used() < until) {
  }
}

TEST(RecentLongest, KnowsOneToTwoMinutes) {
  RecentLongest longest;
  EXPECT_EQ(longest.at(at(0)), microseconds(0));
  longest.note(at(1), microseconds(30));
  longest.note(at(2), microseconds(70));
  longest.note(at(3), microseconds(50));
  EXPECT_EQ(longest.at(at(59)), microseconds(70));
  EXPECT_EQ(longest.at(at(119)), microseconds(70)) << "of the minute before";
  EXPECT_EQ(longest.at(at(120)), microseconds(0)) << "long ago";
}

TEST(RecentLongest, ForgetsTheMinuteBeforeLast) {
  RecentLongest longest;
  longest.note(at(10), microseconds(70));
  longest.note(at(70), microseconds(20));
  EXPECT_EQ(longest.at(at(70)), microseconds(70));
  longest.note(at(130), microseconds(10));
  EXPECT_EQ(longest.at(at(130)), microseconds(20));
  longest.note(at(600), microseconds(5));
  EXPECT_EQ(longest.at(at(600)), microseconds(5)) << "what lies between was quiet";
}

TEST(TurnMeter, CountsTurnsThatWorkTooLong) {
  TurnMeter meter;
  meter.handler_ended();
  work_for(milliseconds(8));
  meter.handler_ended();
  EXPECT_EQ(meter.figures().stalls, 1U);
  EXPECT_GE(meter.figures().longest_processor, milliseconds(8));
}

TEST(TurnMeter, WaitingIsNoWork) {
  TurnMeter meter;
  meter.handler_ended();
  std::this_thread::sleep_for(milliseconds(30));
  meter.handler_ended();
  EXPECT_EQ(meter.figures().stalls, 0U);
  EXPECT_LT(meter.figures().longest_processor, milliseconds(8));
}

TEST(TurnMeter, ShortTurnsDoNotAddUp) {
  TurnMeter meter;
  meter.handler_ended();
  for (int i = 0; i < 50; ++i) {
    work_for(microseconds(400));
    meter.handler_ended();
  }
  EXPECT_EQ(meter.figures().stalls, 0U);
}

TEST(TurnMeter, ATurnIsMeasuredByTheClock) {
  TurnMeter meter;
  {
    const TurnMeter::Turn turn(meter);
    std::this_thread::sleep_for(milliseconds(20));
  }
  EXPECT_GE(meter.figures().longest, milliseconds(20));
}

}  // namespace
}  // namespace millrace::store::redis
