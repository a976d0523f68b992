// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <mutex>
#include <optional>

#include "millrace/types.hpp"
#include "store/redis/reply.hpp"

namespace millrace::store::redis {

/// What TIME answered.
std::optional<Timestamp> time_of(const Reply& reply);

/// The server's clock as we know it: what it said last, run on with our steady clock. Goes backwards only when the
/// server's was set back, by more than what can be an error of ours. Thread-safe.
class ServerClock {
 public:
  using Steady = std::chrono::steady_clock::time_point;
  static constexpr std::chrono::seconds kSetBack{1};

  /// The server said `time` to a question asked at `asked` and answered at `answered`; taken for the middle of these.
  void observe(Timestamp time, Steady asked, Steady answered);
  [[nodiscard]] Timestamp now(Steady steady) const;
  /// How far the last answer was behind what we thought; zero or less when it was not.
  [[nodiscard]] std::chrono::microseconds behind() const;

 private:
  [[nodiscard]] Timestamp raw(Steady steady) const;

  mutable std::mutex mutex_;
  Timestamp time_{};
  Steady at_{};
  std::chrono::microseconds behind_{};
  mutable Timestamp last_{};
};

}  // namespace millrace::store::redis
