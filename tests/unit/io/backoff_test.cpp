// SPDX-License-Identifier: Apache-2.0
#include "io/backoff.hpp"

#include <gtest/gtest.h>

#include <vector>

namespace millrace::io {
namespace {

std::vector<std::int64_t> waits(Backoff& backoff, double jitter, int count) {
  std::vector<std::int64_t> out;
  for (int i = 0; i < count; ++i) out.push_back(backoff.next(jitter).count());
  return out;
}

TEST(Backoff, DoublesUpToTheMost) {
  Backoff backoff(Milliseconds(20), Milliseconds(500));
  EXPECT_EQ(waits(backoff, 0.0, 7), (std::vector<std::int64_t>{20, 40, 80, 160, 320, 500, 500}));
}

TEST(Backoff, JitterTakesUpToHalfAway) {
  Backoff backoff(Milliseconds(100), Milliseconds(1000));
  EXPECT_EQ(waits(backoff, 0.5, 5), (std::vector<std::int64_t>{75, 150, 300, 600, 750}));
  Backoff most(Milliseconds(100), Milliseconds(1000));
  EXPECT_EQ(waits(most, 0.999, 3), (std::vector<std::int64_t>{51, 101, 201}));
}

TEST(Backoff, BeginsAnewAfterASuccess) {
  Backoff backoff(Milliseconds(20), Milliseconds(500));
  waits(backoff, 0.0, 4);
  backoff.reset();
  EXPECT_EQ(waits(backoff, 0.0, 2), (std::vector<std::int64_t>{20, 40}));
}

TEST(Backoff, NeverExceedsTheMostEvenAtFirst) {
  Backoff backoff(Milliseconds(900), Milliseconds(500));
  EXPECT_EQ(waits(backoff, 0.0, 2), (std::vector<std::int64_t>{500, 500}));
}

}  // namespace
}  // namespace millrace::io
