// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Where handlers run: threads for handlers that answer by returning, none for those that answer later.

#include <memory>
#include <vector>

#include "delivery/loop_state.hpp"
#include "delivery/signal.hpp"

namespace millrace::delivery {

/// Used by the claim thread only. Lanes raise the signal when there is something to collect.
class Lanes {
 public:
  struct Report {
    LaneId lane = 0;
    std::vector<Outcome> outcomes;  ///< new ones, in order
    bool finished = false;
    std::chrono::nanoseconds took{0};
  };

  virtual ~Lanes() = default;
  virtual void start(LaneId lane, Work work) = 0;
  /// Begins nothing more of the lane's work. \returns how many were begun; `outcomes` gets the new ones.
  virtual std::size_t revoke(LaneId lane, std::vector<Outcome>& outcomes) = 0;
  virtual void collect(std::vector<Report>& reports) = 0;
  /// No start after this. Waits for handlers that run on threads of the lanes.
  virtual void join() = 0;
};

/// One thread per lane, started with its first work.
std::unique_ptr<Lanes> make_thread_lanes(std::size_t count, Handler handler, std::shared_ptr<Signal> signal);
/// Handlers are called inline by `start` and answer when they like.
std::unique_ptr<Lanes> make_async_lanes(AsyncHandler handler, std::shared_ptr<Signal> signal);

}  // namespace millrace::delivery
