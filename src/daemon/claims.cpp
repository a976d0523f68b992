// SPDX-License-Identifier: Apache-2.0
#include "daemon/claims.hpp"

#include <algorithm>
#include <optional>

#include "base/log.hpp"
#include "daemon/json.hpp"
#include "daemon/metrics.hpp"
#include "daemon/schemas.hpp"

namespace millrace::daemon {

namespace {

/// So many in a row may go away empty before the rest of the line is left for the next round: what one consumer cannot
/// have (a suspect goes only to one that holds nothing else) another may.
constexpr std::size_t kEmptyInARow = 64;
constexpr Milliseconds kNextRound{100};
constexpr int kReleaseTries = 5;

}  // namespace

void Claims::claim(const std::shared_ptr<Call>& call, const GroupName& group, const ClaimRequest& request,
                   Milliseconds wait) {
  std::uint64_t seen = 0;
  {
    const std::lock_guard lock(mutex_);
    seen = changes_;
    if (ended_) wait = Milliseconds{0};
  }
  ClaimAnswer first = services_.schemas.claim(group, request);
  if (!first.deliveries.empty() || wait.count() == 0) return answer(call, group, std::move(first.deliveries));

  auto waiter = std::make_shared<Waiter>();
  waiter->call = call;
  waiter->request = request;
  waiter->deadline = std::chrono::steady_clock::now() + wait;
  {
    const std::lock_guard lock(mutex_);
    if (!ended_) {
      Line& line = lines_[group];
      line.waiters.push_back(waiter);
      waiter->deadline_timer = services_.timer.after(wait, [this, group, waiter] { leave(group, waiter, false); });
      if (changes_ != seen) {
        look_locked(group, line);  // it came between our look and our waiting
      } else if (first.next_due && line.due == 0) {
        line.due = services_.timer.after(*first.next_due, [this, group] { look(group); });
      }
    } else {
      waiter = nullptr;
    }
  }
  if (waiter == nullptr) return answer(call, group, {});
  std::weak_ptr<Waiter> weak = waiter;  // the waiter holds the call, the call the exchange, the exchange this callback
  call->exchange().on_closed([this, group, weak] {
    if (const auto alive = weak.lock()) leave(group, alive, true);
  });
}

void Claims::changed() {
  const std::lock_guard lock(mutex_);
  ++changes_;
  for (auto& [group, line] : lines_) {
    if (!line.waiters.empty()) look_locked(group, line);
  }
}

void Claims::look(const GroupName& group) {
  const std::lock_guard lock(mutex_);
  const auto line = lines_.find(group);
  if (line == lines_.end()) return;
  line->second.due = 0;
  look_locked(group, line->second);
}

void Claims::look_locked(const GroupName& group, Line& line) {
  if (line.running) {
    line.again = true;
    return;
  }
  line.running = true;
  services_.soon([this, group] { walk(group); });
}

/// One pass along the line. Only one runs per group, so waiters are served in the order they came.
void Claims::walk(const GroupName& group) {
  std::unique_lock lock(mutex_);
  Line& line = lines_[group];
  line.again = false;
  std::optional<Milliseconds> next_due;
  std::size_t empty = 0;
  for (std::size_t i = 0; i < line.waiters.size() && empty < kEmptyInARow;) {
    const auto waiter = line.waiters[i];
    waiter->claiming = true;
    lock.unlock();
    ClaimAnswer got;
    std::optional<Error> failed;
    try {
      got = services_.schemas.claim(group, waiter->request);
    } catch (const Error& error) {
      failed = error;
    }
    lock.lock();
    waiter->claiming = false;
    const bool over = ended_ || waiter->gone || std::chrono::steady_clock::now() >= waiter->deadline;
    if (!failed && got.deliveries.empty() && !over) {
      ++empty;
      if (got.next_due && (!next_due || *got.next_due < *next_due)) next_due = got.next_due;
      const auto here = std::find(line.waiters.begin(), line.waiters.end(), waiter);
      i = here == line.waiters.end() ? i : static_cast<std::size_t>(here - line.waiters.begin()) + 1;
      continue;
    }
    std::erase(line.waiters, waiter);
    services_.timer.cancel(waiter->deadline_timer);
    const bool gone = waiter->gone;
    lock.unlock();
    if (failed) {
      waiter->call->fail(*failed);
    } else if (gone && !got.deliveries.empty()) {
      std::vector<Lease> leases;
      for (const Delivery& delivery : got.deliveries) leases.push_back(delivery.lease);
      release(group, std::move(leases), kReleaseTries);
      answer(waiter->call, group, {});
    } else {
      answer(waiter->call, group, std::move(got.deliveries));
    }
    lock.lock();
    i = std::min(i, line.waiters.size());
  }
  if (empty >= kEmptyInARow && line.waiters.size() > kEmptyInARow) {
    std::rotate(line.waiters.begin(), line.waiters.begin() + kEmptyInARow, line.waiters.end());
    if (!next_due || *next_due > kNextRound) next_due = kNextRound;
  }
  line.running = false;
  if (line.waiters.empty()) {
    services_.timer.cancel(line.due);
    lines_.erase(group);
    return;
  }
  if (line.again) return look_locked(group, line);
  if (next_due) {
    services_.timer.cancel(line.due);
    line.due = services_.timer.after(std::max(*next_due, Milliseconds{1}), [this, group] { look(group); });
  }
}

void Claims::leave(const GroupName& group, const std::shared_ptr<Waiter>& waiter, bool hung_up) {
  {
    const std::lock_guard lock(mutex_);
    if (hung_up) waiter->gone = true;
    if (waiter->claiming) return;  // the walk sees it when it is back
    const auto line = lines_.find(group);
    if (line == lines_.end() || std::erase(line->second.waiters, waiter) == 0) return;
    services_.timer.cancel(waiter->deadline_timer);
    if (line->second.waiters.empty() && !line->second.running) {
      services_.timer.cancel(line->second.due);
      lines_.erase(line);
    }
  }
  answer(waiter->call, group, {});
}

void Claims::end() {
  std::vector<std::pair<GroupName, std::shared_ptr<Waiter>>> all;
  {
    const std::lock_guard lock(mutex_);
    ended_ = true;
    for (auto& [group, line] : lines_) {
      for (const auto& waiter : line.waiters) all.emplace_back(group, waiter);
    }
  }
  for (const auto& [group, waiter] : all) leave(group, waiter, false);
}

std::size_t Claims::waiting() const {
  const std::lock_guard lock(mutex_);
  std::size_t count = 0;
  for (const auto& [group, line] : lines_) count += line.waiters.size();
  return count;
}

void Claims::answer(const std::shared_ptr<Call>& call, const GroupName& group, std::vector<Delivery> deliveries) {
  std::string body = deliveries_json(deliveries);
  if (deliveries.empty()) return call->json(std::move(body));
  services_.metrics.delivered(group, deliveries);
  std::vector<Lease> leases;
  leases.reserve(deliveries.size());
  for (const Delivery& delivery : deliveries) leases.push_back(delivery.lease);
  call->json(std::move(body), 200, [this, group, leases = std::move(leases)](bool sent) mutable {
    if (sent) return;
    services_.soon(
        [this, group, leases = std::move(leases)]() mutable { release(group, std::move(leases), kReleaseTries); });
  });
}

/// Nobody got them, so nobody is charged. If even that fails, their lease runs out, which is a crash of the consumer.
void Claims::release(const GroupName& group, std::vector<Lease> leases, int tries_left) {
  try {
    std::vector<Settlement> settlements;
    settlements.reserve(leases.size());
    for (const Lease& lease : leases) settlements.push_back({lease, Outcome::release()});
    services_.store.ledger().settle(group, settlements);
  } catch (const Error& error) {
    log::write(log::Level::warn, error);
    if (tries_left > 1 && is_transient(error.code())) {
      services_.timer.after(std::chrono::milliseconds(200),
                            [this, group, leases = std::move(leases), tries_left]() mutable {
                              services_.soon([this, group, leases = std::move(leases), tries_left]() mutable {
                                release(group, std::move(leases), tries_left - 1);
                              });
                            });
    }
  }
}

}  // namespace millrace::daemon
