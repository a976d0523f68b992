// SPDX-License-Identifier: Apache-2.0
#include "bus/observer.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <span>
#include <utility>

#include "base/log.hpp"

namespace millrace::bus {
namespace {

/// The observers this thread is inside of, innermost first.
struct Frame {
  const Observer* observer;
  const Frame* outer;
};
thread_local const Frame* innermost = nullptr;

bool inside(const Frame* frame, const Observer* observer) {
  for (; frame != nullptr; frame = frame->outer) {
    if (frame->observer == observer) return true;
  }
  return false;
}

/// Who, inside which observers, waits for which one to return. Only threads inside an observer stand here, so that two
/// observers that cancel each other from two threads are recognised instead of waiting for each other for ever.
struct Waiter {
  const Frame* inside;
  const Observer* target;
};
std::mutex waiters_mutex;
std::vector<Waiter>& waiters() {
  static std::vector<Waiter> list;
  return list;
}

/// Would waiting for `target` mean waiting, through others, for an observer that this thread is inside of?
bool waits_for_me(const Observer* target, const Frame* me) {
  std::vector<const Observer*> reached{target};
  for (std::size_t i = 0; i < reached.size(); ++i) {
    for (const Waiter& waiter : waiters()) {
      if (!inside(waiter.inside, reached[i])) continue;
      if (inside(me, waiter.target)) return true;
      if (std::find(reached.begin(), reached.end(), waiter.target) == reached.end()) reached.push_back(waiter.target);
    }
  }
  return false;
}

constexpr std::chrono::seconds kReportEvery{10};

}  // namespace

Observer::Observer(std::vector<std::string> types, ObserverFunction function)
    : types_(std::span<const std::string>(types)), all_(types_.matches_all()), function_(std::move(function)) {}

bool Observer::call(const Observed& observed) {
  if ((started_.fetch_add(1) & kCancelled) != 0) {
    turned_away_.fetch_add(1, std::memory_order_relaxed);
    leave();
    return true;
  }
  const Frame frame{this, innermost};
  innermost = &frame;
  bool ok = true;
  try {
    function_(observed);
  } catch (const std::exception& error) {
    ok = false;
    report(error.what());
  } catch (...) {
    ok = false;
    report("an exception that is no std::exception");
  }
  innermost = frame.outer;
  leave();
  return ok;
}

void Observer::leave() {
  finished_.fetch_add(1);
  if ((started_.load() & kCancelled) == 0) return;
  drop_function_when_idle();
  finished_.notify_all();
}

bool Observer::idle() const {
  // In this order: `started_` only grows, so equal means that nobody was inside when `finished_` was read.
  const std::uint64_t finished = finished_.load();
  return (started_.load() & ~kCancelled) == finished;
}

void Observer::drop_function_when_idle() {
  // What the function captured goes with the observation, not with the last thread that remembers an old list.
  if (idle() && !dropped_.exchange(true)) function_ = nullptr;
}

void Observer::cancel() {
  started_.fetch_or(kCancelled);
  if (inside(innermost, this)) return;
  bool listed = false;
  if (innermost != nullptr) {
    const std::lock_guard lock(waiters_mutex);
    if (waits_for_me(this, innermost)) return;
    waiters().push_back({innermost, this});
    listed = true;
  }
  for (;;) {
    const std::uint64_t finished = finished_.load();
    if ((started_.load() & ~kCancelled) == finished) break;
    finished_.wait(finished);
  }
  if (listed) {
    const std::lock_guard lock(waiters_mutex);
    std::erase_if(waiters(), [this](const Waiter& w) { return w.inside == innermost && w.target == this; });
  }
  drop_function_when_idle();
}

Observation::Counts Observer::counts() const {
  const std::uint64_t away = turned_away_.load(std::memory_order_relaxed);
  const std::uint64_t started = started_.load(std::memory_order_relaxed) & ~kCancelled;
  return {started >= away ? started - away : 0, failures_.load(std::memory_order_relaxed)};
}

void Observer::report(const char* what) {
  const std::uint64_t count = failures_.fetch_add(1, std::memory_order_relaxed) + 1;
  const std::int64_t now = std::chrono::steady_clock::now().time_since_epoch().count();
  std::int64_t next = next_report_.load(std::memory_order_relaxed);
  if (now < next) return;
  const std::int64_t later = now + std::chrono::nanoseconds(kReportEvery).count();
  if (!next_report_.compare_exchange_strong(next, later)) return;
  log::warn("observer_failed", all_ ? "*" : fmt::format("{}", fmt::join(types_.texts(), ",")),
            fmt::format("an observer threw: {} (its failure number {}; told at most every {} s)", what, count,
                        kReportEvery.count()));
}

namespace {

/// The list a thread used last, per bus. A slot in use belongs to a dispatch further up this thread's stack.
struct Slot {
  std::uint64_t list = 0;
  std::uint64_t version = 0;
  bool in_use = false;
  std::shared_ptr<const ObserverList::Snapshot> observers;
};
constexpr std::size_t kSlots = 8;
thread_local std::array<Slot, kSlots> slots;

std::uint64_t next_list_id() {
  static std::atomic<std::uint64_t> last{0};
  return ++last;
}

}  // namespace

ObserverList::ObserverList() : id_(next_list_id()), snapshot_(std::make_shared<Snapshot>()) {}

std::shared_ptr<const ObserverList::Snapshot> ObserverList::current(std::uint64_t& version) const {
  const std::lock_guard lock(mutex_);
  version = version_.load(std::memory_order_relaxed);
  return snapshot_;
}

void ObserverList::replace(std::shared_ptr<const Snapshot> next) {
  size_.store(next->size(), std::memory_order_relaxed);
  snapshot_ = std::move(next);
  version_.fetch_add(1, std::memory_order_release);
}

void ObserverList::add(std::shared_ptr<Observer> observer) {
  const std::lock_guard lock(mutex_);
  auto next = std::make_shared<Snapshot>(*snapshot_);
  next->push_back(std::move(observer));
  replace(std::move(next));
}

void ObserverList::remove(const Observer* observer) {
  const std::lock_guard lock(mutex_);
  auto next = std::make_shared<Snapshot>(*snapshot_);
  std::erase_if(*next, [observer](const auto& other) { return other.get() == observer; });
  replace(std::move(next));
}

void ObserverList::call_all(const Snapshot& observers, const Observed& observed) {
  for (const auto& observer : observers) {
    if (!observer->wants(observed.event)) continue;
    if (!observer->call(observed)) failures_.fetch_add(1, std::memory_order_relaxed);
  }
}

void ObserverList::dispatch(const Observed& observed) {
  const std::uint64_t version = version_.load(std::memory_order_acquire);
  Slot& slot = slots[id_ % kSlots];
  const bool fits = slot.list == id_ && slot.version == version;
  if (slot.in_use) {
    if (fits) {
      call_all(*slot.observers, observed);
    } else {
      std::uint64_t ignored = 0;
      const auto observers = current(ignored);
      call_all(*observers, observed);
    }
    return;
  }
  if (!fits) {
    slot.observers = current(slot.version);
    slot.list = id_;
  }
  slot.in_use = true;
  call_all(*slot.observers, observed);  // throws nothing: what an observer throws ends in Observer::call
  slot.in_use = false;
}

}  // namespace millrace::bus
