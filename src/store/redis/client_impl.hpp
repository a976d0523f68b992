// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <atomic>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <string>
#include <thread>
#include <vector>

#include "store/redis/client.hpp"
#include "store/redis/clock.hpp"
#include "store/redis/connection.hpp"
#include "store/redis/pool.hpp"

namespace millrace::store::redis {

/// The client's inside; the Listener shares its loop.
struct Client::Impl {
  Impl(RedisUrl url, Milliseconds look_again);
  ~Impl();
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

  using Replies = std::variant<std::vector<Reply>, Error>;

  RequestPtr make(const std::vector<Command>& commands, Access access) const;
  RequestPtr make(const Script& script, const std::vector<std::string>& keys, const std::vector<std::string>& args,
                  const EncodedWords& more, Access access) const;
  /// \throws Error when it is refused
  void submit(Purpose purpose, RequestPtr request);
  std::vector<Reply> wait_for(Purpose purpose, RequestPtr request);
  [[nodiscard]] Error error_of(const Reply& reply, const std::string& operation) const;
  /// Runs it on the loop's thread and waits; when the loop has ended, at once.
  void on_loop(const std::function<void()>& action);
  void stop(Milliseconds drain);
  Pool& pool(Purpose purpose) { return *pools[static_cast<std::size_t>(purpose)]; }

  boost::asio::io_context loop{1};
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> work{loop.get_executor()};
  Surroundings around;
  Milliseconds look_again;
  ServerClock clock;
  std::vector<std::shared_ptr<Pool>> pools;

 private:
  Connection::Events events();
  void learn(const ServerFacts& facts);
  void observe(Timestamp time, Steady asked, Steady answered);
  void look();
  void on_look(const Replies& outcome, Steady asked);
  void look_in(Milliseconds delay);
  void wait_until_connected();
  void end_loop();

  friend class Client;
  boost::asio::steady_timer look_timer_{loop};
  bool stopping_ = false;  // this and the next two belong to the loop
  std::size_t all_ = 0;    // connections
  std::size_t ready_ = 0;  // of them

  mutable std::mutex mutex_;
  ServerFacts facts_;
  std::optional<Error> unfit_;  ///< why writes are refused
  std::atomic<bool> refusing_{false};
  std::atomic<std::uint64_t> greetings_{0};

  // The first connects.
  std::size_t to_connect_ = 0;
  std::optional<Error> first_failure_;
  std::condition_variable connected_;

  std::mutex stop_mutex_;   ///< one stop at a time
  std::shared_mutex life_;  ///< held by who needs the loop to go on
  bool ended_ = false;
  std::thread thread_;
};

}  // namespace millrace::store::redis
