// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// When the next event of a replay is due.

#include <chrono>
#include <optional>

#include "millrace/replay.hpp"

namespace millrace::replay {

using SteadyTime = std::chrono::steady_clock::time_point;

/// Where a pace is measured from: an event, and when it was given to the target.
struct PaceOrigin {
  Timestamp stored_at = {};
  SteadyTime given_at = {};
};

/// How long to wait from `now` until an event stored at `stored_at` is due; zero = it is. Measured from the origin, not
/// from the event before, so that delays do not add up: who falls behind catches up without waiting. Pure.
std::chrono::microseconds due_in(const ReplayPace& pace, const PaceOrigin& origin, Timestamp stored_at, SteadyTime now);

}  // namespace millrace::replay
