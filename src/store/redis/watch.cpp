// SPDX-License-Identifier: Apache-2.0
#include "store/redis/watch.hpp"

#include <mutex>
#include <set>
#include <string>

#include "store/memory/notifier.hpp"
#include "store/redis/listener.hpp"

namespace millrace::store::redis {

/// The listener's calls come on the client's thread, which must go on: watchers are called on the notifier's.
struct Watchers::Impl {
  Impl(Client& client, const Keys& names)
      : keys(names),
        listener(std::make_unique<Listener>(client, keys.prefix() + "millrace:wake",
                                            [this](std::string_view) { notifier.changed(); })) {}

  const Keys& keys;
  memory::Notifier notifier{1};
  std::mutex mutex;
  std::set<std::string> followed;
  std::unique_ptr<Listener> listener;
};

Watchers::Watchers(Client& client, const Keys& keys) : impl_(std::make_unique<Impl>(client, keys)) {}

Watchers::~Watchers() = default;

std::unique_ptr<Watch> Watchers::watch(std::function<void()> changed) {
  return impl_->notifier.watch(std::move(changed));
}

void Watchers::follow(const std::vector<StreamName>& streams) {
  const std::lock_guard lock(impl_->mutex);
  if (!impl_->listener) return;
  std::set<std::string> keys;
  for (const StreamName& stream : streams) keys.insert(impl_->keys.log(stream));
  for (const std::string& key : keys) {
    if (!impl_->followed.contains(key)) impl_->listener->watch(key);
  }
  for (const std::string& key : impl_->followed) {
    if (!keys.contains(key)) impl_->listener->forget(key);
  }
  impl_->followed = std::move(keys);
}

void Watchers::stop() {
  const std::lock_guard lock(impl_->mutex);
  impl_->listener.reset();
}

Client::Figures Watchers::figures() const {
  const std::lock_guard lock(impl_->mutex);
  return impl_->listener ? impl_->listener->figures() : Client::Figures{};
}

}  // namespace millrace::store::redis
