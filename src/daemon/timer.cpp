// SPDX-License-Identifier: Apache-2.0
#include "daemon/timer.hpp"

#include <utility>

namespace millrace::daemon {

Timer::Timer() : thread_([this] { run(); }) {}
Timer::~Timer() {
  stop();
}

Timer::Id Timer::after(std::chrono::milliseconds wait, std::function<void()> callback) {
  const auto due = std::chrono::steady_clock::now() + wait;
  const std::lock_guard lock(mutex_);
  if (stopped_) return 0;
  const Id id = ++last_;
  const bool first = entries_.empty() || due < entries_.begin()->first.first;
  entries_.emplace(std::pair(due, id), std::move(callback));
  due_.emplace(id, due);
  if (first) changed_.notify_one();
  return id;
}

void Timer::cancel(Id id) {
  std::function<void()> callback;  // destroyed outside the lock
  const std::lock_guard lock(mutex_);
  const auto found = due_.find(id);
  if (found == due_.end()) return;
  const auto entry = entries_.find({found->second, id});
  callback = std::move(entry->second);
  entries_.erase(entry);
  due_.erase(found);
}

void Timer::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopped_ = true;
    changed_.notify_one();
  }
  if (thread_.joinable()) thread_.join();
  std::map<Entry, std::function<void()>> forgotten;  // destroyed outside the lock
  const std::lock_guard lock(mutex_);
  forgotten.swap(entries_);
  due_.clear();
}

void Timer::run() {
  std::unique_lock lock(mutex_);
  while (!stopped_) {
    if (entries_.empty()) {
      changed_.wait(lock);
      continue;
    }
    const auto first = entries_.begin();
    const auto due = first->first.first;
    if (std::chrono::steady_clock::now() < due) {
      changed_.wait_until(lock, due);
      continue;
    }
    auto callback = std::move(first->second);
    due_.erase(first->first.second);
    entries_.erase(first);
    lock.unlock();
    callback();
    callback = nullptr;
    lock.lock();
  }
}

}  // namespace millrace::daemon
