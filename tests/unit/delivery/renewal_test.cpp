// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "delivery/session_keeper.hpp"

namespace millrace::delivery {
namespace {

using namespace std::chrono_literals;

TEST(RenewalPlan, RenewsAtAThirdOfTheLease) {
  const Time start{100s};
  RenewalPlan plan(3s, start);
  EXPECT_EQ(plan.next(), start + 1s);
  plan.renewed(start + 1100ms);
  EXPECT_EQ(plan.next(), start + 2100ms);
}

TEST(RenewalPlan, TriesAgainSoonAfterAFailure) {
  const Time start{100s};
  RenewalPlan plan(3s, start);
  plan.failed(start + 1s);
  EXPECT_EQ(plan.next(), start + 1300ms);
  RenewalPlan shortest(20ms, start);
  shortest.failed(start);
  EXPECT_EQ(shortest.next(), start + 10ms);
}

}  // namespace
}  // namespace millrace::delivery
