// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "millrace/event_log.hpp"
#include "store/redis/client.hpp"
#include "store/redis/keys.hpp"

namespace millrace::store::redis {

/// Who wants to be told that something changed, by whichever process: entries were added to a stream (also by other
/// producers), or something of a group became claimable (the channel `millrace:wake`). Thread-safe.
class Watchers {
 public:
  Watchers(Client& client, const Keys& keys);
  ~Watchers();
  Watchers(const Watchers&) = delete;
  Watchers& operator=(const Watchers&) = delete;

  std::unique_ptr<Watch> watch(std::function<void()> changed);
  /// From now on these streams are listened to.
  void follow(const std::vector<StreamName>& streams);
  void stop();  ///< listens no more; idempotent. Before the client's end
  [[nodiscard]] Client::Figures figures() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace millrace::store::redis
