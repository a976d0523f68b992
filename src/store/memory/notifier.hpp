// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "millrace/event_log.hpp"

namespace millrace::store::memory {

/// The store's own thread: completions of appends, in commit order, and calls to watchers. Nothing of a caller ever
/// runs while the store's lock is held, nor on the thread of another caller. Thread-safe.
class Notifier {
 public:
  /// \param queue_limit completions that may wait before `wait_for_room` blocks.
  explicit Notifier(std::size_t queue_limit);
  ~Notifier();  ///< runs what is queued, then joins

  /// Blocks while the queue is full; not on the notifier's own thread, which must make the room.
  void wait_for_room();
  void post(std::function<void()> completion);
  /// Watchers are called soon, once for any number of calls in between.
  void changed();
  std::unique_ptr<Watch> watch(std::function<void()> callback);

 private:
  struct Watcher {
    std::recursive_mutex running;  ///< recursive: a callback may destroy its own watch
    bool cancelled = false;
    std::function<void()> callback;
  };
  class Registration;

  void run();
  void call_watchers();

  std::mutex mutex_;
  std::condition_variable work_;
  std::condition_variable room_;
  std::deque<std::function<void()>> queue_;
  std::vector<std::shared_ptr<Watcher>> watchers_;
  const std::size_t limit_;
  bool changed_ = false;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace millrace::store::memory
