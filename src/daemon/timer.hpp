// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <thread>

namespace millrace::daemon {

/// Calls back later, on its one thread. Callbacks must not block nor throw. Thread-safe; stop() is for one thread.
class Timer {
 public:
  using Id = std::uint64_t;  ///< 0 = none
  Timer();
  ~Timer();  ///< stop()
  Id after(std::chrono::milliseconds wait, std::function<void()> callback);
  void cancel(Id id);  ///< the callback may be running, or have run
  void stop();         ///< forgets what is not due, joins

 private:
  using Entry = std::pair<std::chrono::steady_clock::time_point, Id>;
  void run();

  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<Entry, std::function<void()>> entries_;
  std::map<Id, std::chrono::steady_clock::time_point> due_;
  Id last_ = 0;
  bool stopped_ = false;
  std::thread thread_;
};

}  // namespace millrace::daemon
