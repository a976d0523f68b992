// SPDX-License-Identifier: Apache-2.0
#include "store/redis/turn_meter.hpp"

#include <time.h>

#include <algorithm>
#include <utility>

namespace millrace::store::redis {
namespace {

using std::chrono::duration_cast;
using std::chrono::microseconds;
using std::chrono::steady_clock;

/// Asking for the processor time costs a system call; asking for the time does not.
constexpr microseconds kLookEvery{1'000};

std::int64_t minute_of(Steady time) {
  return duration_cast<std::chrono::minutes>(time.time_since_epoch()).count();
}

microseconds processor_time_of_this_thread() {
  timespec used{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
  return duration_cast<microseconds>(std::chrono::seconds(used.tv_sec) + std::chrono::nanoseconds(used.tv_nsec));
}

}  // namespace

void RecentLongest::note(Steady now, microseconds value) {
  const std::int64_t minute = minute_of(now);
  const std::int64_t known = minute_.load(std::memory_order_relaxed);
  if (minute != known) {
    before_.store(minute == known + 1 ? in_minute_.load(std::memory_order_relaxed) : 0, std::memory_order_relaxed);
    in_minute_.store(0, std::memory_order_relaxed);
    minute_.store(minute, std::memory_order_relaxed);
  }
  if (value.count() > in_minute_.load(std::memory_order_relaxed)) {
    in_minute_.store(value.count(), std::memory_order_relaxed);
  }
}

microseconds RecentLongest::at(Steady now) const {
  const std::int64_t passed = minute_of(now) - minute_.load(std::memory_order_relaxed);
  const std::int64_t latest = in_minute_.load(std::memory_order_relaxed);
  if (passed <= 0) return microseconds(std::max(latest, before_.load(std::memory_order_relaxed)));
  return microseconds(passed == 1 ? latest : 0);
}

TurnMeter::Turn::~Turn() {
  const Steady now = steady_clock::now();
  meter_.longest_.note(now, duration_cast<microseconds>(now - began_));
}

void TurnMeter::handler_ended() {
  const Steady now = steady_clock::now();
  if (now - looked_ < kLookEvery) return;
  const bool first = looked_ == Steady{};
  looked_ = now;
  const microseconds total = processor_time_of_this_thread();
  const microseconds used = total - std::exchange(used_, total);
  if (first) return;
  longest_processor_.note(now, used);
  if (used > kStall) stalls_.fetch_add(1, std::memory_order_relaxed);
}

TurnMeter::Figures TurnMeter::figures() const {
  const Steady now = steady_clock::now();
  return {longest_.at(now), longest_processor_.at(now), stalls_.load(std::memory_order_relaxed)};
}

}  // namespace millrace::store::redis
