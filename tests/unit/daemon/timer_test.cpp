// SPDX-License-Identifier: Apache-2.0
#include "daemon/timer.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <memory>
#include <thread>
#include <vector>

namespace millrace::daemon {
namespace {

using namespace std::chrono_literals;

TEST(Timer, CallsBackInTheOrderOfTheTimesAndNotWhatWasCancelled) {
  std::vector<int> called;
  std::promise<void> last;
  Timer timer;
  timer.after(60ms, [&] { last.set_value(); });
  timer.after(40ms, [&] { called.push_back(2); });
  timer.after(20ms, [&] { called.push_back(1); });
  timer.cancel(timer.after(30ms, [&] { called.push_back(3); }));
  ASSERT_EQ(last.get_future().wait_for(10s), std::future_status::ready);
  timer.stop();
  EXPECT_EQ(called, (std::vector<int>{1, 2}));
}

TEST(Timer, StoppedItForgetsWhatIsNotDueAndTakesNothingMore) {
  const auto alive = std::make_shared<int>();
  Timer timer;
  timer.after(1h, [alive] {});
  timer.stop();
  EXPECT_EQ(alive.use_count(), 1);
  EXPECT_EQ(timer.after(0ms, [] { FAIL() << "called after stop()"; }), 0U);
}

// Found by ThreadSanitizer at the end of a daemon: workers cancelled deadlines while it was being stopped.
TEST(Timer, OthersMayCancelWhileItIsStopped) {
  for (int round = 0; round < 50; ++round) {
    Timer timer;
    std::vector<Timer::Id> ids;
    for (int i = 0; i < 200; ++i) ids.push_back(timer.after(1h, [] {}));
    std::atomic<bool> begun = false;
    std::thread worker([&] {
      for (const Timer::Id id : ids) {
        timer.cancel(id);
        begun = true;
      }
    });
    while (!begun) std::this_thread::yield();
    timer.stop();
    worker.join();
  }
}

}  // namespace
}  // namespace millrace::daemon
