// SPDX-License-Identifier: Apache-2.0
#include "store/memory/notifier.hpp"

#include <utility>

namespace millrace::store::memory {

class Notifier::Registration : public Watch {
 public:
  explicit Registration(std::shared_ptr<Watcher> watcher) : watcher_(std::move(watcher)) {}
  ~Registration() override {
    const std::lock_guard lock(watcher_->running);
    watcher_->cancelled = true;
  }

 private:
  std::shared_ptr<Watcher> watcher_;
};

Notifier::Notifier(std::size_t queue_limit) : limit_(queue_limit), thread_([this] { run(); }) {}

Notifier::~Notifier() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  work_.notify_all();
  room_.notify_all();
  thread_.join();
}

void Notifier::wait_for_room() {
  if (std::this_thread::get_id() == thread_.get_id()) return;
  std::unique_lock lock(mutex_);
  room_.wait(lock, [this] { return queue_.size() < limit_ || stopping_; });
}

void Notifier::post(std::function<void()> completion) {
  {
    const std::lock_guard lock(mutex_);
    queue_.push_back(std::move(completion));
  }
  work_.notify_one();
}

void Notifier::changed() {
  {
    const std::lock_guard lock(mutex_);
    if (std::exchange(changed_, true)) return;
  }
  work_.notify_one();
}

std::unique_ptr<Watch> Notifier::watch(std::function<void()> callback) {
  auto watcher = std::make_shared<Watcher>();
  watcher->callback = std::move(callback);
  const std::lock_guard lock(mutex_);
  watchers_.push_back(watcher);
  return std::make_unique<Registration>(std::move(watcher));
}

void Notifier::run() {
  std::unique_lock lock(mutex_);
  while (true) {
    work_.wait(lock, [this] { return stopping_ || changed_ || !queue_.empty(); });
    std::deque<std::function<void()>> batch;
    batch.swap(queue_);
    const bool call = std::exchange(changed_, false);
    if (batch.empty() && !call) return;  // stopping, and nothing is left
    lock.unlock();
    room_.notify_all();
    // Watchers first: a completion may be long, and a claimer waits for nothing but the wake.
    if (call) call_watchers();
    for (auto& completion : batch) {
      completion();
      completion = nullptr;
    }
    lock.lock();
  }
}

void Notifier::call_watchers() {
  std::vector<std::shared_ptr<Watcher>> watchers;
  {
    const std::lock_guard lock(mutex_);
    watchers = watchers_;
  }
  bool any_cancelled = false;
  for (const auto& watcher : watchers) {
    const std::lock_guard running(watcher->running);
    if (!watcher->cancelled) watcher->callback();
    any_cancelled |= watcher->cancelled;
  }
  if (!any_cancelled) return;
  std::vector<std::shared_ptr<Watcher>> gone;  // destroyed outside the lock: a callback may own anything
  const std::lock_guard lock(mutex_);
  std::erase_if(watchers_, [&gone](const auto& watcher) {
    const std::unique_lock running(watcher->running, std::try_to_lock);
    if (!running || !watcher->cancelled) return false;
    gone.push_back(watcher);
    return true;
  });
}

}  // namespace millrace::store::memory
