// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Who is told that a commit changed something.

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "millrace/event_log.hpp"

namespace millrace::store::sqlite {

/// Thread-safe. Outlives what `add` returned.
class Watchers {
 public:
  /// `changed` is called on the thread that tells, never by two at once, and not any more once the handle is destroyed:
  /// that waits for a call that is under way, unless it is this call that destroys it.
  std::unique_ptr<Watch> add(std::function<void()> changed);
  [[nodiscard]] bool any() const { return any_; }
  void tell();

 private:
  struct Watcher;
  class Handle;

  std::mutex mutex_;
  std::vector<std::shared_ptr<Watcher>> watchers_;
  std::atomic<bool> any_{false};
};

}  // namespace millrace::store::sqlite
