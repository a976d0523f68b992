// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// What a handler answers, and when an event that failed is tried again.

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include "millrace/types.hpp"

namespace millrace {

/// Why a delivery failed, which decides how patient the retry policy is.
enum class FailureClass {
  transient,  ///< unreachable, timed out, busy: the world's fault; tried until `max_age`
  handler,    ///< the handler said no or threw: maybe the event's fault; tried `max_attempts` times
};
std::string_view to_string(FailureClass failure) noexcept;

/// What becomes of a delivery. A value; build it with the named functions.
struct Outcome {
  enum class Kind { ack, retry, reject, release };

  Kind kind = Kind::ack;
  FailureClass failure = FailureClass::handler;  ///< of a retry
  std::optional<Milliseconds> after = {};        ///< of a retry: wait this long; absent = as the policy says
  std::string reason = {};                       ///< of a retry or reject: kept, shown, never empty on reject

  static Outcome ack() { return {}; }
  /// Again later; counts as a failure.
  static Outcome retry(std::string reason, FailureClass failure = FailureClass::handler,
                       std::optional<Milliseconds> after = std::nullopt) {
    return {Kind::retry, failure, after, std::move(reason)};
  }
  /// Never again: to the dead letters.
  static Outcome reject(std::string reason) {
    return {Kind::reject, FailureClass::handler, std::nullopt, std::move(reason)};
  }
  /// Given back untried, uncharged.
  static Outcome release() { return {Kind::release, FailureClass::handler, std::nullopt, {}}; }
};
std::string_view to_string(Outcome::Kind kind) noexcept;

/// One exponential schedule: the n-th wait lies in [0, min(max, first·2^(n-1))], uniformly ("full jitter").
struct Backoff {
  Milliseconds first{1000};
  Milliseconds max{60'000};
};

/// When to try again and when to give up. Recorded with the group, so that every consumer and every process applies
/// the same. `config show` prints the total each schedule can take.
struct RetryPolicy {
  Backoff transient_backoff{Milliseconds{1000}, Milliseconds{600'000}};
  std::chrono::seconds max_age{24 * 3600};  ///< transient failures: since the first failure
  Backoff handler_backoff{Milliseconds{1000}, Milliseconds{60'000}};
  std::uint32_t max_attempts = 5;  ///< handler failures that kill
  std::uint32_t max_crashes = 3;   ///< crashes (leases that ran out over exactly this event) that kill

  /// \throws Error{invalid_argument} naming field and value.
  void validate() const;
  bool operator==(const RetryPolicy&) const;
};

/// What is known of an event's failures in a group.
struct FailureCounts {
  std::uint32_t failures = 0;          ///< handler and transient together
  std::uint32_t handler_failures = 0;  ///< those that count against max_attempts
  std::uint32_t crashes = 0;
  std::optional<Timestamp> first_failure_at = {};
};

/// The decision, pure. `counts` already includes the failure that just happened.
struct RetryDecision {
  bool dead = false;
  Milliseconds wait{0};     ///< when not dead
  std::string reason = {};  ///< when dead: "gave up after 5 attempts: <reason>"
};
/// \param random uniform in [0, 1); the jitter.
RetryDecision decide_retry(const RetryPolicy& policy, const Outcome& outcome, const FailureCounts& counts,
                           Timestamp now, double random);

}  // namespace millrace
