// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <optional>

#include "delivery/loop_state.hpp"

namespace millrace::delivery {

/// Wakes one sleeping thread. Raising it again while it is raised costs one atomic exchange.
class Signal {
 public:
  void raise() {
    if (raised_.exchange(true)) return;
    const std::lock_guard lock(mutex_);
    condition_.notify_one();
  }
  /// Before looking at what the raisers left: what comes after this raises it again.
  void clear() { raised_.exchange(false); }
  void wait(std::optional<Time> until) {
    std::unique_lock lock(mutex_);
    const auto raised = [this] { return raised_.load(); };
    if (until) {
      condition_.wait_until(lock, *until, raised);
    } else {
      condition_.wait(lock, raised);
    }
  }

 private:
  std::atomic<bool> raised_{false};
  std::mutex mutex_;
  std::condition_variable condition_;
};

}  // namespace millrace::delivery
