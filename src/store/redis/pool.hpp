// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstddef>
#include <deque>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "store/redis/client.hpp"
#include "store/redis/connection.hpp"

namespace millrace::store::redis {

/// The connections of one purpose, and the way to them from other threads. `submit` and `refuse_more` are thread-safe,
/// the rest belongs to the loop.
class Pool : public std::enable_shared_from_this<Pool> {
 public:
  /// What may be on its way or wait at once, in bytes of commands; more is refused.
  static constexpr std::size_t kMostPending = 256UL << 20;

  Pool(Surroundings& around, Purpose purpose, std::size_t connections, const Connection::Events& events);

  /// \throws Error{stopped | unavailable}: then the request's `done` is not called
  void submit(RequestPtr request);
  void refuse_more();  ///< submit throws {stopped} from now on

  void start();
  void stop();
  void close(const Error& why);
  [[nodiscard]] bool idle() const;  ///< nothing on its way
  [[nodiscard]] Client::Figures figures() const;

 private:
  void post_drain();
  void drain(std::size_t most);
  Connection& choose(const Request& request);

  Surroundings& around_;
  std::vector<std::shared_ptr<Connection>> connections_;
  std::deque<RequestPtr> backlog_;  ///< taken from the inbox, not given to a connection yet
  std::atomic<std::size_t> pending_{0};
  std::mutex mutex_;
  std::vector<RequestPtr> inbox_;
  bool drain_posted_ = false;
  bool stopped_ = false;
};

/// What they say of themselves together. On the loop.
Client::Figures figures_of(std::span<const std::shared_ptr<Connection>> connections);

}  // namespace millrace::store::redis
