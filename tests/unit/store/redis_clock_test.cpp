// SPDX-License-Identifier: Apache-2.0

// A server whose clock is set.

#include <cstdlib>
#include <fstream>
#include <future>

#include "redis_ledger_support.hpp"

namespace millrace::store::redis {
namespace {

using namespace std::chrono_literals;

/// What is in the environment while a server is started.
class Environment {
 public:
  explicit Environment(std::vector<std::pair<std::string, std::string>> variables) : variables_(std::move(variables)) {
    for (const auto& [name, value] : variables_) ::setenv(name.c_str(), value.c_str(), 1);
  }
  ~Environment() {
    for (const auto& [name, value] : variables_) ::unsetenv(name.c_str());
  }
  Environment(const Environment&) = delete;
  Environment& operator=(const Environment&) = delete;

 private:
  std::vector<std::pair<std::string, std::string>> variables_;
};

class RedisClock : public testing::Test {
 protected:
  void SetUp() override {
    set(0s);
    const Environment preloaded({{"LD_PRELOAD", MILLRACE_SET_CLOCK}, {"MILLRACE_CLOCK_FILE", file()}});
    server_.emplace(test::RedisServer::Options{.settings = {{"appendonly", "no"}}});
    client_.emplace(url());
    log_.emplace(*client_, RedisLog::Options{});
    log_->ensure_streams(std::vector<StreamName>{StreamName(kDefaultStream)});
  }
  void TearDown() override { std::remove(file().c_str()); }

  [[nodiscard]] std::string file() const { return testing::TempDir() + "millrace-clock-" + std::to_string(::getpid()); }
  /// So much later than it is.
  void set(std::chrono::seconds offset) const {
    const std::string next = file() + ".next";
    std::ofstream(next) << offset.count();
    std::rename(next.c_str(), file().c_str());
  }
  [[nodiscard]] RedisUrl url() const { return parse_redis_url(server_->url("durability=memory")); }
  Position append(const std::string& id) {
    Event event;
    event.id = id;
    event.source = "/test";
    event.type = "t";
    return log_->append(kDefaultStream, std::vector{event}, {}).at(0).position.value();
  }
  /// Whether it ends in time; if not, the clock is set right so that it does.
  bool ends(const std::function<void()>& call) {
    auto running = std::async(std::launch::async, call);
    const bool ended = running.wait_for(20s) == std::future_status::ready;
    if (!ended) set(0s);
    running.get();
    return ended;
  }

  std::optional<test::RedisServer> server_;
  std::optional<Client> client_;
  std::optional<RedisLog> log_;
};

TEST_F(RedisClock, SetBackHoldsNobodyUp) {
  Process process(url());
  process.make_group("g", OrderRule::parse("none"));
  const Position first = append("1");
  append("2");
  const auto held = process.claim("g", "slow", 1, 50ms);
  ASSERT_EQ(held.size(), 1U);
  const SessionId before = process.ledger().open_session("before", 60s);
  std::this_thread::sleep_for(100ms);
  set(-3600s);
  EXPECT_TRUE(ends([&] {
    const auto claimed = process.claim("g", "quick", 10);  // the lease ran out, and does not any more
    ASSERT_EQ(claimed.size(), 1U);
    EXPECT_TRUE(process.settle("g", claimed, Outcome::ack()).empty());
  }));
  EXPECT_TRUE(ends([&] {
    EXPECT_TRUE(process.ledger().renew_session(before));
    const SessionId session = process.ledger().open_session("after", 60s);
    EXPECT_GT(append("3"), first) << "positions go on";
    const auto claimed = process.claim("g", "after", 10, session);
    ASSERT_EQ(claimed.size(), 1U);
    EXPECT_TRUE(process.settle("g", claimed, Outcome::ack()).empty());
    EXPECT_TRUE(process.settle("g", held, Outcome::ack()).empty()) << "nobody else has it";
  }));
  EXPECT_EQ(process.ledger().group("g").processed, 3U);
}

TEST_F(RedisClock, SetForwardEndsLeasesAndRefusesTheLate) {
  Process slow(url()), quick(url());
  slow.make_group("g", OrderRule::parse("none"));
  append("1");
  const SessionId session = slow.ledger().open_session("slow", 60s);
  const auto held = slow.claim("g", "slow", 1, session);
  ASSERT_EQ(held.size(), 1U);
  set(3600s);
  EXPECT_FALSE(slow.ledger().renew_session(session));
  Process third(url());  // knows what time it is
  const auto taken = third.claim("g", "third", 1);
  ASSERT_EQ(taken.size(), 1U);
  EXPECT_EQ(slow.settle("g", held, Outcome::ack()).size(), 1U);
  EXPECT_TRUE(third.settle("g", taken, Outcome::ack()).empty());
  append("2");
  const SessionId again = quick.ledger().open_session("quick", 60s);
  EXPECT_EQ(quick.claim("g", "quick", 1, again).size(), 1U);
}

}  // namespace
}  // namespace millrace::store::redis
