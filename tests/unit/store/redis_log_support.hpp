// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "sqlite_test_support.hpp"
#include "store/redis/client.hpp"
#include "store/redis/log.hpp"
#include "support/redis_server.hpp"

namespace millrace::test {

/// A server, a client and a log on it with the stream `events`; and a neighbour who does what he likes.
class RedisLogTest : public testing::Test {
 protected:
  using Client = store::redis::Client;
  using RedisLog = store::redis::RedisLog;
  using Reply = store::redis::Reply;

  void SetUp() override {
    open();
    log_->create_stream("events");
  }

  void open(RedisLog::Options options = {}) {
    log_.reset();
    if (!client_) {
      client_ = std::make_unique<Client>(store::redis::parse_redis_url(server_.url("durability=memory")));
    }
    log_ = std::make_unique<RedisLog>(*client_, std::move(options));
  }

  EventLog& log() { return *log_; }

  /// A command by another program.
  Reply neighbour(std::vector<std::string> words) {
    return client_->call(store::redis::Purpose::key_value, std::move(words));
  }
  std::string text(std::vector<std::string> words) { return neighbour(std::move(words)).as_text(); }
  std::int64_t number(std::vector<std::string> words) { return neighbour(std::move(words)).as_integer(); }
  std::optional<std::string> stream_field(const std::string& field) {
    const Reply reply = neighbour({"HGET", "millrace:stream:events", field});
    return reply.is_nil() ? std::nullopt : std::optional(reply.as_text());
  }

  std::vector<AppendResult> append(const std::vector<Event>& events) { return log().append("events", events, {}); }
  Position put(const Event& event) { return append({event}).at(0).position.value(); }
  Page read(ReadQuery query = {}) { return log().read("events", query); }
  std::vector<std::string> ids(ReadQuery query = {}) {
    std::vector<std::string> all;
    for (const StoredEvent& stored : read(std::move(query)).events) all.push_back(stored.event.id);
    return all;
  }

  /// A group's row, as the ledger writes it.
  void group(const std::string& name, Position cursor, Position oldest_open = {}, std::vector<std::string> more = {}) {
    neighbour({"HSET", "millrace:groups", name, "events"});
    std::vector<std::string> words{"HSET",        "millrace:group:" + name,
                                   "cursor",      id(cursor),
                                   "oldest_open", id(oldest_open),
                                   "last_seen",   "0",
                                   "version",     "1"};
    words.insert(words.end(), more.begin(), more.end());
    neighbour(std::move(words));
  }
  static std::string id(Position position) { return store::redis::id_of(position); }

  RedisServer server_{{.settings = {{"appendonly", "no"}}}};
  std::unique_ptr<Client> client_;
  std::unique_ptr<RedisLog> log_;
};

}  // namespace millrace::test
