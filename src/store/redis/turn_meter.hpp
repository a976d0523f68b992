// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>

namespace millrace::store::redis {

using Steady = std::chrono::steady_clock::time_point;

/// The longest of what was noted in the last one to two minutes. One thread notes, any asks.
class RecentLongest {
 public:
  void note(Steady now, std::chrono::microseconds value);
  [[nodiscard]] std::chrono::microseconds at(Steady now) const;

 private:
  std::atomic<std::int64_t> minute_{0};
  std::atomic<std::int64_t> in_minute_{0};  ///< microseconds
  std::atomic<std::int64_t> before_{0};     ///< in the minute before that one
};

/// How long a loop keeps others waiting. Its thread notes, any thread asks.
///
/// By the clock, what a callback of ours took; that is longer than our doing when the machine gives the processor to
/// somebody else meanwhile. By the processor time of the thread, what any handler took, TLS included: when 1 ms has
/// passed since it was looked at last, so it is up to 1 ms too much, and never too little.
class TurnMeter {
 public:
  /// A turn that uses more processor time than this has kept others waiting.
  static constexpr std::chrono::microseconds kStall{5'000};

  /// Notes the time until its end as one turn.
  class Turn {
   public:
    explicit Turn(TurnMeter& meter) : meter_(meter) {}
    ~Turn();
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;

   private:
    TurnMeter& meter_;
    Steady began_ = std::chrono::steady_clock::now();
  };
  /// After each handler of the loop, whatever it was; and once before the first.
  void handler_ended();

  struct Figures {
    std::chrono::microseconds longest{};            ///< of the last one to two minutes, by the clock
    std::chrono::microseconds longest_processor{};  ///< the same by processor time
    std::uint64_t stalls = 0;                       ///< turns of more than kStall of processor time, ever
  };
  [[nodiscard]] Figures figures() const;

 private:
  RecentLongest longest_;
  RecentLongest longest_processor_;
  std::atomic<std::uint64_t> stalls_{0};
  Steady looked_{};  ///< the loop's, as the next
  std::chrono::microseconds used_{};
};

}  // namespace millrace::store::redis
