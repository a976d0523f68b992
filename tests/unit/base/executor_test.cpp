// SPDX-License-Identifier: Apache-2.0
#include "base/executor.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <thread>
#include <vector>

#include "millrace/error.hpp"

namespace millrace {
namespace {

TEST(Executor, RunsEverythingPostedBeforeItStops) {
  std::atomic<int> ran{0};
  Executor executor(3, 1000, "test");
  for (int i = 0; i < 500; ++i) ASSERT_TRUE(executor.post([&] { ++ran; }));
  executor.stop();
  EXPECT_EQ(ran, 500);
  EXPECT_FALSE(executor.try_post([&] { ++ran; }));
  EXPECT_FALSE(executor.post([&] { ++ran; }));
  executor.stop();
  EXPECT_EQ(ran, 500);
}

TEST(Executor, DestructionRunsWhatIsQueued) {
  std::atomic<int> ran{0};
  {
    Executor executor(1, 100, "test");
    for (int i = 0; i < 100; ++i) ASSERT_TRUE(executor.post([&] { ++ran; }));
  }
  EXPECT_EQ(ran, 100);
}

TEST(Executor, OneThreadKeepsTheOrder) {
  std::vector<int> order;
  Executor executor(1, 10, "test");
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(executor.post([&order, i] { order.push_back(i); }));
  executor.stop();
  for (int i = 0; i < 100; ++i) EXPECT_EQ(order[static_cast<std::size_t>(i)], i);
}

TEST(Executor, RefusesWhenFullAndWaitsWhenAsked) {
  std::promise<void> gate;
  std::promise<void> started;
  Executor executor(1, 2, "test");
  ASSERT_TRUE(executor.post([&] {
    started.set_value();
    gate.get_future().wait();
  }));
  started.get_future().wait();
  EXPECT_TRUE(executor.try_post([] {}));
  EXPECT_TRUE(executor.try_post([] {}));
  EXPECT_FALSE(executor.try_post([] {}));

  std::atomic<bool> ran{false};
  std::jthread waiting([&] { EXPECT_TRUE(executor.post([&] { ran = true; })); });
  gate.set_value();
  waiting.join();
  executor.stop();
  EXPECT_TRUE(ran);
}

TEST(Executor, StoppingWakesAPosterThatWaitsForRoom) {
  std::promise<void> gate;
  std::promise<void> started;
  Executor executor(1, 1, "test");
  ASSERT_TRUE(executor.post([&] {
    started.set_value();
    gate.get_future().wait();
  }));
  started.get_future().wait();
  ASSERT_TRUE(executor.try_post([] {}));
  std::promise<bool> taken;
  std::jthread poster([&] { taken.set_value(executor.post([] {})); });
  std::jthread stopper([&] { executor.stop(); });
  EXPECT_FALSE(taken.get_future().get());  // the queue stays full until the gate opens
  gate.set_value();
}

TEST(Executor, NeedsAThreadAndRoom) {
  EXPECT_THROW(Executor(0, 1, "test"), Error);
  EXPECT_THROW(Executor(1, 0, "test"), Error);
}

}  // namespace
}  // namespace millrace
