// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <functional>
#include <memory>

namespace millrace {

/// A fixed number of threads over one bounded queue. Thread-safe. Tasks must not throw.
class Executor {
 public:
  Executor(std::size_t threads, std::size_t queue_limit, const char* thread_name);
  ~Executor();  ///< runs what is queued, then joins
  /// False when the queue is full or the executor stopped: the task was not taken.
  [[nodiscard]] bool try_post(std::function<void()> task);
  /// Waits for room instead. False only when stopped.
  bool post(std::function<void()> task);
  void stop();  ///< takes no more, runs what is queued, joins

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace millrace
