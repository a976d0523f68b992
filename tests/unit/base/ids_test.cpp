// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <thread>
#include <vector>

#include "base/random.hpp"
#include "base/time.hpp"
#include "base/uuid.hpp"

namespace millrace {
namespace {

TEST(Uuid, HasTheFormOfVersionSeven) {
  for (int i = 0; i < 100; ++i) {
    EXPECT_THAT(new_uuid_v7(),
                testing::MatchesRegex("[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"));
  }
}

TEST(Uuid, BeginsWithTheMillisecondsOfNow) {
  const auto millis = [] {
    return std::chrono::floor<std::chrono::milliseconds>(wall_now().time_since_epoch()).count();
  };
  const auto before = millis();
  const std::string text = new_uuid_v7();
  const auto stamp = std::stoll(text.substr(0, 8) + text.substr(9, 4), nullptr, 16);
  EXPECT_GE(stamp, before);
  EXPECT_LE(stamp, millis() + 1000);  // may run ahead of the clock while many are made within a millisecond
}

TEST(Uuid, StrictlyIncreasesWithinAThreadAndRepeatsInNone) {
  std::vector<std::vector<std::string>> made(4);
  {
    std::vector<std::jthread> threads;
    for (auto& mine : made) {
      threads.emplace_back([&mine] {
        for (int i = 0; i < 20'000; ++i) mine.push_back(new_uuid_v7());
      });
    }
  }
  std::set<std::string> all;
  for (const auto& mine : made) {
    EXPECT_TRUE(std::is_sorted(mine.begin(), mine.end()));
    all.insert(mine.begin(), mine.end());
  }
  EXPECT_EQ(all.size(), 80'000U);
}

TEST(Random, IsSpreadOverTheUnitInterval) {
  int buckets[10] = {};
  for (int i = 0; i < 100'000; ++i) {
    const double value = random_unit();
    ASSERT_GE(value, 0.0);
    ASSERT_LT(value, 1.0);
    ++buckets[static_cast<int>(value * 10)];
  }
  for (const int count : buckets) EXPECT_NEAR(count, 10'000, 1'000);
}

TEST(Random, DiffersBetweenThreads) {
  double one = 0;
  double two = 0;
  std::thread([&] { one = random_unit(); }).join();
  std::thread([&] { two = random_unit(); }).join();
  EXPECT_NE(one, two);
}

}  // namespace
}  // namespace millrace
