// SPDX-License-Identifier: Apache-2.0
#include "http/connection.hpp"

#include <utility>

namespace millrace::http {

void Hub::add(Connection* connection) {
  const std::lock_guard lock(mutex_);
  connections_.insert(connection);
}

void Hub::remove(Connection* connection) {
  const std::lock_guard lock(mutex_);
  connections_.erase(connection);
}

std::vector<std::shared_ptr<Connection>> Hub::connections() {
  const std::lock_guard lock(mutex_);
  std::vector<std::shared_ptr<Connection>> out;
  for (Connection* connection : connections_) {
    if (auto alive = connection->weak_from_this().lock()) out.push_back(std::move(alive));
  }
  return out;
}

std::uint64_t Hub::open() const {
  const std::lock_guard lock(mutex_);
  return connections_.size();
}

TlsContext Hub::tls() const {
  const std::lock_guard lock(mutex_);
  return tls_;
}

void Hub::set_tls(TlsContext tls) {
  const std::lock_guard lock(mutex_);
  tls_ = std::move(tls);
}

void Hub::begin_work() {
  const std::lock_guard lock(mutex_);
  ++work_;
}

void Hub::end_work() {
  const std::lock_guard lock(mutex_);
  if (--work_ == 0) idle_.notify_all();
}

bool Hub::wait_no_work(Milliseconds grace) {
  std::unique_lock lock(mutex_);
  return idle_.wait_for(lock, grace, [this] { return work_ == 0; });
}

void OnceSignal::set(std::function<void()> callback) {
  {
    const std::lock_guard lock(mutex_);
    if (dropped_) return;
    if (!fired_) {
      callback_ = std::move(callback);
      return;
    }
  }
  callback();
}

void OnceSignal::fire() {
  std::function<void()> callback;
  {
    const std::lock_guard lock(mutex_);
    if (fired_ || dropped_) return;
    fired_ = true;
    callback = std::exchange(callback_, nullptr);
  }
  if (callback) callback();
}

void OnceSignal::drop() {
  std::function<void()> callback;  // destroyed outside the lock: it may own what calls back here
  const std::lock_guard lock(mutex_);
  dropped_ = true;
  callback.swap(callback_);
}

}  // namespace millrace::http
