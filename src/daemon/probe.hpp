// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <mutex>
#include <string>
#include <vector>

#include "millrace/store.hpp"

namespace millrace::daemon {

/// Asks the store whether it answers: one question at a time, however many want to know. Thread-safe.
class Probe {
 public:
  /// \param why why it does not; empty when it does
  using Done = std::function<void(const std::string& why)>;
  explicit Probe(Store& store) : store_(store) {}

  /// Asks, blocking, and calls `done`; while another one asks already, returns at once, and `done` is called with that
  /// answer, on the other one's thread. `done` must not throw.
  void ask(Done done);

 private:
  Store& store_;
  std::mutex mutex_;
  std::vector<Done> waiting_;  ///< not empty: somebody asks
};

}  // namespace millrace::daemon
