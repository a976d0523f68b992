// SPDX-License-Identifier: Apache-2.0
#include "millrace/retry.hpp"

#include <gtest/gtest.h>

#include "millrace/error.hpp"

namespace millrace {
namespace {

using std::chrono::hours;
using std::chrono::seconds;

const Timestamp kNow{std::chrono::sys_days{std::chrono::year{2026} / 11 / 20}};
constexpr double kAlmostOne = 0.9999999;

FailureCounts handler(std::uint32_t n) {
  return {.failures = n, .handler_failures = n, .crashes = 0, .first_failure_at = kNow};
}
FailureCounts transient(std::uint32_t n, Timestamp first) {
  return {.failures = n, .handler_failures = 0, .crashes = 0, .first_failure_at = first};
}

TEST(DecideRetry, DoublesTheHandlerScheduleUpToItsMaximum) {
  RetryPolicy policy;
  policy.max_attempts = 100;
  const long longest[] = {1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000};
  for (std::uint32_t n = 1; n <= 8; ++n) {
    EXPECT_EQ(decide_retry(policy, Outcome::retry("x"), handler(n), kNow, 0.0).wait, Milliseconds{0});
    EXPECT_EQ(decide_retry(policy, Outcome::retry("x"), handler(n), kNow, kAlmostOne).wait,
              Milliseconds{longest[n - 1]});
    const auto half = decide_retry(policy, Outcome::retry("x"), handler(n), kNow, 0.5).wait;
    EXPECT_NEAR(static_cast<double>(half.count()), static_cast<double>(longest[n - 1]) / 2, 1.0);
  }
}

TEST(DecideRetry, DoesNotOverflowAfterManyFailures) {
  RetryPolicy policy;
  for (const std::uint32_t n : {31U, 64U, 1000U, 4'000'000'000U}) {
    EXPECT_EQ(
        decide_retry(policy, Outcome::retry("x", FailureClass::transient), transient(n, kNow), kNow, kAlmostOne).wait,
        Milliseconds{600'000});
  }
}

TEST(DecideRetry, KillsAtMaxAttemptsOfTheHandler) {
  const RetryPolicy policy;
  EXPECT_FALSE(decide_retry(policy, Outcome::retry("x"), handler(4), kNow, 0.5).dead);
  const auto fifth = decide_retry(policy, Outcome::retry("no such user"), handler(5), kNow, 0.5);
  EXPECT_TRUE(fifth.dead);
  EXPECT_EQ(fifth.reason, "gave up after 5 attempts: no such user");
}

TEST(DecideRetry, NeverKillsTransientFailuresByCount) {
  const RetryPolicy policy;
  auto counts = transient(5000, kNow - hours{1});
  counts.handler_failures = 4;
  EXPECT_FALSE(decide_retry(policy, Outcome::retry("x", FailureClass::transient), counts, kNow, 0.5).dead);
}

TEST(DecideRetry, KillsTransientFailuresAtMaxAgeAndTriesOnceMoreThen) {
  const RetryPolicy policy;
  const Outcome outcome = Outcome::retry("refused", FailureClass::transient);
  const auto last = decide_retry(policy, outcome, transient(50, kNow - hours{24} + seconds{2}), kNow, kAlmostOne);
  EXPECT_FALSE(last.dead);
  EXPECT_EQ(last.wait, seconds{2});
  EXPECT_TRUE(decide_retry(policy, outcome, transient(51, kNow - hours{24}), kNow, 0.5).dead);
}

TEST(DecideRetry, WaitsAsLongAsTheAnswerAsksFor) {
  const RetryPolicy policy;
  const auto asked = Outcome::retry("busy", FailureClass::handler, Milliseconds{123'456});
  EXPECT_EQ(decide_retry(policy, asked, handler(1), kNow, 0.1).wait, Milliseconds{123'456});
  EXPECT_TRUE(decide_retry(policy, asked, handler(5), kNow, 0.1).dead) << "asking does not prolong a life";
}

TEST(RetryPolicy, NamesTheFieldThatCannotBe) {
  const auto field = [](auto change) {
    RetryPolicy policy;
    change(policy);
    try {
      policy.validate();
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Errc::invalid_argument);
      return error.object();
    }
    return std::string("none");
  };
  EXPECT_EQ(field([](RetryPolicy&) {}), "none");
  EXPECT_EQ(field([](RetryPolicy& p) { p.max_attempts = 0; }), "max_attempts");
  EXPECT_EQ(field([](RetryPolicy& p) { p.max_crashes = 0; }), "max_crashes");
  EXPECT_EQ(field([](RetryPolicy& p) { p.max_age = seconds{0}; }), "max_age");
  EXPECT_EQ(field([](RetryPolicy& p) { p.handler_backoff.first = Milliseconds{0}; }), "handler_backoff");
  EXPECT_EQ(field([](RetryPolicy& p) { p.transient_backoff.max = Milliseconds{1}; }), "transient_backoff");
}

}  // namespace
}  // namespace millrace
