// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// For tests of the ledger on Redis: a server of their own, and as many "processes" as they want, each with a client
/// and a ledger of its own.

#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "store/redis/ledger.hpp"
#include "store/redis/log.hpp"
#include "support/redis_server.hpp"

namespace millrace::store::redis {

inline const char* const kLog = "events:all:stream";

class RedisLedgerTest : public testing::Test {
 public:
  RedisLedgerTest() : client_(url()), log_(client_, {}) { make_streams(); }

  [[nodiscard]] RedisUrl url() const { return parse_redis_url(server_.url("durability=memory")); }
  [[nodiscard]] const test::RedisServer& server() const { return server_; }
  RedisLog& log() { return log_; }
  void make_streams() { log_.ensure_streams(std::vector<StreamName>{StreamName(kDefaultStream)}); }

  /// `count` events; with `keys` of them, they have so many order keys in turn.
  std::vector<Position> append(std::size_t count, const std::string& key = {}, std::size_t keys = 1) {
    std::vector<Event> events;
    for (std::size_t i = 0; i < count; ++i) {
      Event& event = events.emplace_back();
      event.id = "e" + std::to_string(made_++);
      event.source = "/test";
      event.type = "t";
      if (!key.empty()) event.subject = key + std::to_string(made_ % keys);
      event.data = "data of " + event.id;
    }
    std::vector<Position> positions;
    for (const AppendResult& answer : log_.append(kDefaultStream, events, Durability::memory)) {
      positions.push_back(answer.position.value());
    }
    return positions;
  }

  Reply redis(Command command) { return client_.call(Purpose::key_value, std::move(command)); }
  /// A field of `XINFO GROUPS` of a group.
  Reply native(const std::string& group, const std::string& field) {
    const Reply groups = redis({"XINFO", "GROUPS", kLog});
    for (const Reply& one : groups.as_array()) {
      if (one.items.at(1).text != group) continue;
      for (std::size_t i = 0; i + 1 < one.items.size(); i += 2) {
        if (one.items[i].text == field) return one.items[i + 1];
      }
    }
    ADD_FAILURE() << "there is no native group " << group << " with a " << field;
    return {};
  }

  static bool eventually(const std::function<bool()>& holds) {
    for (const auto end = std::chrono::steady_clock::now() + std::chrono::seconds{20};
         std::chrono::steady_clock::now() < end; std::this_thread::sleep_for(std::chrono::milliseconds{20})) {
      if (holds()) return true;
    }
    return false;
  }

  static std::string states(const std::vector<PendingEvent>& pending) {
    std::string all;
    for (const PendingEvent& one : pending) {
      all += one.position.to_string() + " " + std::string(to_string(one.state)) + " " + one.id + " " + one.consumer +
             " " + std::to_string(one.attempt) + " " + std::to_string(one.failures) + "\n";
    }
    return all;
  }

 private:
  test::RedisServer server_{{.settings = {{"appendonly", "no"}}}};
  Client client_;
  RedisLog log_;
  std::size_t made_ = 0;
};

/// What another process would be.
class Process {
 public:
  explicit Process(const RedisLedgerTest& test, LedgerOptions options = {}) : Process(test.url(), std::move(options)) {}
  explicit Process(RedisUrl url, LedgerOptions options = {})
      : client_(std::make_unique<Client>(std::move(url))),
        ledger_(std::make_unique<RedisLedger>(*client_, std::move(options))) {}

  RedisLedger& ledger() { return *ledger_; }
  void make_group(const GroupName& name, OrderRule order = {}, GroupSettings settings = {}) {
    ledger_->ensure_group(name, {.stream = StreamName(kDefaultStream),
                                 .start = Start::beginning(),
                                 .order = std::move(order),
                                 .settings = settings});
  }
  std::vector<Delivery> claim(const GroupName& group, const std::string& consumer, std::size_t max,
                              std::variant<SessionId, Milliseconds> hold = Milliseconds{600'000}) {
    ClaimRequest request;
    request.consumer = consumer;
    request.max = max;
    request.hold = hold;
    return ledger_->claim(group, request).deliveries;
  }
  std::vector<std::size_t> settle(const GroupName& group, const std::vector<Delivery>& deliveries,
                                  const Outcome& outcome) {
    std::vector<Settlement> settlements;
    for (const Delivery& delivery : deliveries) settlements.push_back({delivery.lease, outcome});
    return ledger_->settle(group, settlements);
  }

 private:
  std::unique_ptr<Client> client_;
  std::unique_ptr<RedisLedger> ledger_;
};

}  // namespace millrace::store::redis
