// SPDX-License-Identifier: Apache-2.0
#include "daemon/probe.hpp"

#include <exception>
#include <utility>

namespace millrace::daemon {

void Probe::ask(Done done) {
  {
    const std::lock_guard lock(mutex_);
    waiting_.push_back(std::move(done));
    if (waiting_.size() > 1) return;
  }
  std::string why;
  try {
    static_cast<void>(store_.log().streams());
  } catch (const std::exception& error) {
    why = error.what();
  }
  std::vector<Done> waiting;
  {
    const std::lock_guard lock(mutex_);
    waiting.swap(waiting_);
  }
  for (const Done& each : waiting) each(why);
}

}  // namespace millrace::daemon
