// SPDX-License-Identifier: Apache-2.0
#include "millrace/retry.hpp"

#include <algorithm>
#include <cmath>

#include "millrace/error.hpp"

namespace millrace {

std::string_view to_string(FailureClass failure) noexcept {
  return failure == FailureClass::transient ? "transient" : "handler";
}

std::string_view to_string(Outcome::Kind kind) noexcept {
  switch (kind) {
    case Outcome::Kind::ack:
      return "ack";
    case Outcome::Kind::retry:
      return "retry";
    case Outcome::Kind::reject:
      return "reject";
    case Outcome::Kind::release:
      return "release";
  }
  return "?";
}

namespace {

void check_backoff(const char* field, const Backoff& backoff) {
  const auto fail = [&](const std::string& what) { throw Error(Errc::invalid_argument, "retry policy", field, what); };
  if (backoff.first < Milliseconds{1}) fail("first is " + std::to_string(backoff.first.count()) + " ms; at least 1 ms");
  if (backoff.max < backoff.first) {
    fail("max is " + std::to_string(backoff.max.count()) + " ms, less than first, " +
         std::to_string(backoff.first.count()) + " ms");
  }
}

/// The longest n-th wait, before jitter.
Milliseconds ceiling(const Backoff& backoff, std::uint32_t n) {
  const double doubled = std::ldexp(static_cast<double>(backoff.first.count()), static_cast<int>(std::min(n, 60U)) - 1);
  return std::min(backoff.max, Milliseconds{static_cast<Milliseconds::rep>(std::min(doubled, 1e15))});
}

}  // namespace

void RetryPolicy::validate() const {
  check_backoff("transient_backoff", transient_backoff);
  check_backoff("handler_backoff", handler_backoff);
  const auto at_least_one = [](const char* field, std::int64_t value) {
    if (value < 1) {
      throw Error(Errc::invalid_argument, "retry policy", field, "is " + std::to_string(value) + "; at least 1");
    }
  };
  at_least_one("max_age", max_age.count());
  at_least_one("max_attempts", max_attempts);
  at_least_one("max_crashes", max_crashes);
}

bool RetryPolicy::operator==(const RetryPolicy& other) const {
  const auto same = [](const Backoff& a, const Backoff& b) { return a.first == b.first && a.max == b.max; };
  return same(transient_backoff, other.transient_backoff) && same(handler_backoff, other.handler_backoff) &&
         max_age == other.max_age && max_attempts == other.max_attempts && max_crashes == other.max_crashes;
}

RetryDecision decide_retry(const RetryPolicy& policy, const Outcome& outcome, const FailureCounts& counts,
                           Timestamp now, double random) {
  RetryDecision decision;
  const bool transient = outcome.failure == FailureClass::transient;
  const Timestamp give_up = counts.first_failure_at.value_or(now) + policy.max_age;
  if (transient && now >= give_up) {
    decision.dead = true;
    decision.reason = "gave up after " + std::to_string(policy.max_age.count()) + " s: " + outcome.reason;
    return decision;
  }
  if (!transient && counts.handler_failures >= policy.max_attempts) {
    decision.dead = true;
    decision.reason = "gave up after " + std::to_string(counts.handler_failures) + " attempts: " + outcome.reason;
    return decision;
  }
  if (outcome.after) {
    decision.wait = std::max(*outcome.after, Milliseconds{0});
    return decision;
  }
  const Milliseconds longest = transient ? ceiling(policy.transient_backoff, std::max(counts.failures, 1U))
                                         : ceiling(policy.handler_backoff, std::max(counts.handler_failures, 1U));
  decision.wait =
      Milliseconds{static_cast<Milliseconds::rep>(std::floor(random * static_cast<double>(longest.count() + 1)))};
  // A transient failure gets its last try when max_age is up, not one backoff later.
  if (transient && now + decision.wait > give_up) {
    decision.wait = std::chrono::ceil<Milliseconds>(give_up - now);
  }
  return decision;
}

}  // namespace millrace
