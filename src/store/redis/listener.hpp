// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "store/redis/client.hpp"

namespace millrace::store::redis {

/// Waits at the server for news: entries added to streams, by whomever, and messages on one channel. Has two
/// connections of its own, on the thread of the client. Thread-safe.
class Listener {
 public:
  /// What is new: the key of a watched stream; the text of a message; or nothing (empty) when a connection was lost and
  /// is there again, so that anything may have happened meanwhile. Called on the client's thread, often once too often,
  /// never once too little; must not block, throw, or call anything of the client that blocks.
  using Changed = std::function<void(std::string_view what)>;

  /// Connects and subscribes. \param channel as it is, without a prefix.
  /// \throws Error as the client's constructor; {permission_denied} when the ACL forbids the channel
  Listener(Client& client, std::string channel, Changed changed);
  ~Listener();  ///< `changed` is not called any more. Before the client's end
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;

  /// From now on this stream is watched, whether it exists yet or not; `changed` is called for it once. The key with
  /// its prefix.
  void watch(const std::string& key);
  void forget(const std::string& key);

  [[nodiscard]] Client::Figures figures() const;

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace millrace::store::redis
