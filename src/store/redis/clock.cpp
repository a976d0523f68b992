// SPDX-License-Identifier: Apache-2.0
#include "store/redis/clock.hpp"

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <string>

namespace millrace::store::redis {

using std::chrono::duration_cast;
using std::chrono::microseconds;

std::optional<Timestamp> time_of(const Reply& reply) {
  if (reply.kind != Reply::Kind::array || reply.items.size() != 2) return std::nullopt;
  std::int64_t parts[2] = {};  // seconds and microseconds, as texts
  for (std::size_t i = 0; i < 2; ++i) {
    const std::string& text = reply.items[i].text;
    if (std::from_chars(text.data(), text.data() + text.size(), parts[i]).ec != std::errc{}) return std::nullopt;
  }
  return Timestamp(std::chrono::seconds(parts[0]) + std::chrono::microseconds(parts[1]));
}

Timestamp ServerClock::raw(Steady steady) const {
  return time_ + duration_cast<microseconds>(steady - at_);
}

void ServerClock::observe(Timestamp time, Steady asked, Steady answered) {
  const Steady middle = asked + (answered - asked) / 2;
  const std::lock_guard lock(mutex_);
  behind_ = time_ == Timestamp{} ? microseconds{} : raw(middle) - time;
  if (behind_ > kSetBack) last_ = {};
  time_ = time;
  at_ = middle;
}

Timestamp ServerClock::now(Steady steady) const {
  const std::lock_guard lock(mutex_);
  last_ = std::max(last_, raw(steady));
  return last_;
}

microseconds ServerClock::behind() const {
  const std::lock_guard lock(mutex_);
  return behind_;
}

}  // namespace millrace::store::redis
