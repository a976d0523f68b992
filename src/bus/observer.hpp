// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// One observer and the list of them: what makes adding, removing and calling at the same time safe and cheap.
///
/// A dispatch takes no lock and copies no shared_ptr: each thread keeps the list it used last and looks only whether
/// the version has changed. What remains per call are two counters of the observer itself; their difference says
/// whether it is running, which is what a cancel waits for.

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "millrace/bus.hpp"
#include "millrace/pattern.hpp"

namespace millrace::bus {

class ObserverList;

class Observer {
 public:
  Observer(std::vector<std::string> types, ObserverFunction function);

  [[nodiscard]] bool wants(const Event& event) const { return all_ || types_.matches(event.type); }
  /// Calls the function unless cancelled. \returns false when it threw.
  bool call(const Observed& observed);
  /// After this it never starts again; waits for running calls, unless that would mean waiting for oneself: from inside
  /// this observer, or from inside one whose end somebody in this one already waits for.
  void cancel();
  [[nodiscard]] Observation::Counts counts() const;

 private:
  static constexpr std::uint64_t kCancelled = 1ULL << 63;

  void leave();
  [[nodiscard]] bool idle() const;
  void drop_function_when_idle();
  void report(const char* what);

  PatternList types_;
  bool all_;
  ObserverFunction function_;
  std::atomic<std::uint64_t> started_{0};   ///< calls begun or turned away; the top bit: cancelled
  std::atomic<std::uint64_t> finished_{0};  ///< of those, over
  std::atomic<std::uint64_t> turned_away_{0};
  std::atomic<std::uint64_t> failures_{0};
  std::atomic<std::int64_t> next_report_{0};  ///< steady clock, nanoseconds
  std::atomic<bool> dropped_{false};
};

/// The observers of a bus: copied on write, read without a lock. Thread-safe.
class ObserverList {
 public:
  using Snapshot = std::vector<std::shared_ptr<Observer>>;

  ObserverList();
  void add(std::shared_ptr<Observer> observer);
  void remove(const Observer* observer);
  [[nodiscard]] std::size_t size() const { return size_.load(std::memory_order_relaxed); }
  [[nodiscard]] std::uint64_t failures() const { return failures_.load(std::memory_order_relaxed); }

  /// Calls every observer that wants the event and was there when the call began.
  void dispatch(const Observed& observed);

 private:
  [[nodiscard]] std::shared_ptr<const Snapshot> current(std::uint64_t& version) const;
  void replace(std::shared_ptr<const Snapshot> next);
  void call_all(const Snapshot& observers, const Observed& observed);

  const std::uint64_t id_;  ///< never used twice in a process: names this list in the threads' caches
  mutable std::mutex mutex_;
  std::shared_ptr<const Snapshot> snapshot_;
  std::atomic<std::uint64_t> version_{1};
  std::atomic<std::size_t> size_{0};
  std::atomic<std::uint64_t> failures_{0};
};

}  // namespace millrace::bus
