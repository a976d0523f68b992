// SPDX-License-Identifier: Apache-2.0
#include "store/sqlite/watchers.hpp"

#include <thread>
#include <utility>

namespace millrace::store::sqlite {

struct Watchers::Watcher {
  std::function<void()> changed;
  std::mutex running;
  std::atomic<std::thread::id> runner{};
  bool alive = true;
};

class Watchers::Handle final : public Watch {
 public:
  Handle(Watchers& all, std::shared_ptr<Watcher> watcher) : all_(all), watcher_(std::move(watcher)) {}
  ~Handle() override {
    {
      const std::lock_guard lock(all_.mutex_);
      std::erase(all_.watchers_, watcher_);
      all_.any_ = !all_.watchers_.empty();
    }
    if (watcher_->runner == std::this_thread::get_id()) {
      watcher_->alive = false;  // destroyed by its own callback, which holds the lock
      return;
    }
    const std::lock_guard lock(watcher_->running);
    watcher_->alive = false;
  }
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;

 private:
  Watchers& all_;
  std::shared_ptr<Watcher> watcher_;
};

std::unique_ptr<Watch> Watchers::add(std::function<void()> changed) {
  auto watcher = std::make_shared<Watcher>();
  watcher->changed = std::move(changed);
  auto handle = std::make_unique<Handle>(*this, watcher);
  const std::lock_guard lock(mutex_);
  watchers_.push_back(std::move(watcher));
  any_ = true;
  return handle;
}

void Watchers::tell() {
  if (!any_) return;
  std::vector<std::shared_ptr<Watcher>> watchers;
  {
    const std::lock_guard lock(mutex_);
    watchers = watchers_;
  }
  for (const auto& watcher : watchers) {
    const std::lock_guard lock(watcher->running);
    if (!watcher->alive) continue;
    watcher->runner = std::this_thread::get_id();
    watcher->changed();
    watcher->runner = std::thread::id{};
  }
}

}  // namespace millrace::store::sqlite
