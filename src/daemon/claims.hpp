// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Claims that wait: the long poll, without a thread each. Waiters stand in a line per group; when something may have
/// become claimable, one task at a time per group goes along the line. What is handed out is up to date (schemas.hpp).

#include <atomic>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "daemon/call.hpp"

namespace millrace::daemon {

class Claims {
 public:
  explicit Claims(Services& services) : services_(services) {}

  /// Claims and answers, at once or when there is something, `wait` has passed, the client is gone or `end` was called.
  /// Blocks for the store; call it on the work pool. \throws Error of the first claim
  void claim(const std::shared_ptr<Call>& call, const GroupName& group, const ClaimRequest& request, Milliseconds wait);

  void changed();  ///< something may have become claimable; any thread, does not block
  void end();      ///< everyone waiting is answered empty, and nobody waits any more
  [[nodiscard]] std::size_t waiting() const;

 private:
  struct Waiter {
    std::shared_ptr<Call> call;
    ClaimRequest request;
    std::chrono::steady_clock::time_point deadline;
    Timer::Id deadline_timer = 0;
    bool claiming = false;  ///< the task of its group asks for it right now, without the lock
    bool gone = false;      ///< the client hung up
  };
  struct Line {
    std::deque<std::shared_ptr<Waiter>> waiters;
    bool running = false;
    bool again = false;
    Timer::Id due = 0;
  };

  void look(const GroupName& group);
  void look_locked(const GroupName& group, Line& line);
  void walk(const GroupName& group);
  void leave(const GroupName& group, const std::shared_ptr<Waiter>& waiter, bool hung_up);
  void answer(const std::shared_ptr<Call>& call, const GroupName& group, std::vector<Delivery> deliveries);
  void release(const GroupName& group, std::vector<Lease> leases, int tries_left);

  Services& services_;
  mutable std::mutex mutex_;
  std::map<GroupName, Line> lines_;
  std::uint64_t changes_ = 0;
  bool ended_ = false;
};

}  // namespace millrace::daemon
