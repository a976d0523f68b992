// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "store/redis/client.hpp"
#include "store/redis/key_value.hpp"
#include "store/redis/keys.hpp"
#include "store/redis/ledger.hpp"
#include "store/redis/log.hpp"

namespace millrace::store::redis {

/// What a process looks after while it has the store open: that there still is one (a server may come back empty, and
/// somebody may flush it), which streams there are, expired keys, what it all weighs. Groups and streams keep house
/// themselves.
///
/// When the store is gone, it is made anew, with the streams and groups there were: consumers go on without a restart.
/// A group begins at the beginning of the new, empty store, whatever its start was: all that comes is new to it.
class House {
 public:
  struct Parts {
    Client& client;
    const Keys& keys;
    RedisLog& log;
    RedisLedger& ledger;
    RedisKeyValue& kv;
    bool owner = true;
    std::string made_at = {};                                  ///< of the store that was opened
    std::function<void(std::vector<StreamName>)> follow = {};  ///< told which streams there are
  };
  explicit House(Parts parts) : parts_(std::move(parts)) {}
  ~House() { stop(); }

  void start();
  void stop();  ///< idempotent
  /// A connection came back, or a stream was made: look now.
  void look();

  struct Figures {
    std::uint64_t emptied = 0;    ///< times the store was gone and made anew
    double used_memory = 0;       ///< of the whole server, in bytes
    double memory_per_event = 0;  ///< of entry and idempotency together; 0 when there are none
  };
  [[nodiscard]] Figures figures() const { return {emptied_.load(), used_memory_.load(), memory_per_event_.load()}; }

 private:
  using Clock = std::chrono::steady_clock;

  void run(const std::stop_token& stop);
  void step();
  void look_at_store();
  void make_again();
  void look_at_streams();
  void look_at_groups();
  void clean_keys();
  void weigh();

  Parts parts_;
  std::vector<StreamName> streams_;  ///< the thread's, as all of these
  std::vector<std::string> group_names_;
  std::vector<GroupInfo> groups_;  ///< so that they can be made again
  std::string cleaned_to_;
  Clock::time_point streams_at_{}, cleaned_at_{}, weighed_at_{};
  bool troubled_ = false;

  std::atomic<std::uint64_t> emptied_{0};
  std::atomic<double> used_memory_{0}, memory_per_event_{0};
  std::mutex mutex_;
  std::condition_variable_any wake_;
  bool look_ = false;
  std::jthread thread_;
};

}  // namespace millrace::store::redis
