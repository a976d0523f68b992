// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <condition_variable>
#include <functional>
#include <mutex>
#include <optional>
#include <thread>

#include "delivery/loop_state.hpp"

namespace millrace::delivery {

/// When to renew, pure: at a third of the lease after the last renewal began, and sooner after one that failed.
class RenewalPlan {
 public:
  RenewalPlan(Milliseconds lease, Time now) : lease_(lease) { renewed(now); }
  void renewed(Time begun) { next_ = begun + lease_ / 3; }
  void failed(Time now) { next_ = now + std::max(lease_ / 10, Milliseconds{10}); }
  [[nodiscard]] Time next() const { return next_; }

 private:
  Milliseconds lease_;
  Time next_;
};

/// Renews a session on a thread of its own, so that no handler and no slow claim can let it expire. Thread-safe.
class SessionKeeper {
 public:
  using Lost = std::function<void(SessionId)>;

  /// `lost` is called on the keeper's thread when the store says that the session is over.
  SessionKeeper(Ledger& ledger, Milliseconds lease, Lost lost);
  ~SessionKeeper();
  void keep(SessionId session);  ///< from now on, instead of any other
  void let_go();

 private:
  void run();

  Ledger& ledger_;
  const Milliseconds lease_;
  const Lost lost_;
  std::mutex mutex_;
  std::condition_variable condition_;
  std::optional<SessionId> session_;
  std::optional<RenewalPlan> plan_;
  bool quit_ = false;
  std::thread thread_;
};

}  // namespace millrace::delivery
